//! An image of two layers, about 200 MB as it travels and 500 MB unpacked, from
//! a registry on the loopback.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use isolazi_tests::command::tool;
use isolazi_tests::fixture::{self, find};
use isolazi_tests::handmade::{Image, digest};
use isolazi_tests::registry::Registry;
use isolazi_tests::surroundings::native_lacks;

use crate::Bench;
use crate::measure::{Pairs, time};
use crate::table::Row;

const PAIRS: usize = 5;
const LAYERS: usize = 2;
/// Of each layer, unpacked.
const LAYER_BYTES: u64 = 250 << 20;
/// Larger files are left out, so that there are many.
const LARGEST_FILE: u64 = 32 << 20;
/// Where files to fill layers with are taken from: whatever this machine runs.
const SOURCES: [&str; 3] = ["/usr/lib", "/usr/share", "/usr/bin"];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    for tool in ["docker-registry", "skopeo", "podman"] {
        ensure!(find(tool).is_some(), "{tool} is not installed");
    }
    let kept = image()?;
    let folder = bench.folder.path().join("pull");
    fs::create_dir_all(&folder)?;
    let registry = Registry::start(&kept.join("storage"), &folder)?;
    let reference = format!("{}/bench:1", registry.address());

    let ours = || {
        in_fresh_folder(&folder, |place| {
            let mut pull = Command::new(&bench.shared.program);
            pull.args(["pull", &reference]).env("ISOLAZI_HOME", place);
            time(&mut pull)
        })
    };
    let podman = || {
        in_fresh_folder(&folder, |place| {
            let mut pull = Command::new("podman");
            pull.arg("--root").arg(place.join("root"));
            pull.arg("--runroot").arg(place.join("run"));
            pull.args(["--storage-driver", "overlay", "pull", "--quiet"]);
            time(pull.args(["--tls-verify=false", &reference]))
        })
    };
    let tar = || {
        in_fresh_folder(&folder, |place| {
            let script = "for layer in \"$@\"; do tar xzf \"$layer\" || exit 1; done";
            let mut unpack = Command::new("sh");
            unpack.args(["-c", script, "sh"]).current_dir(place);
            time(unpack.args((0..LAYERS).map(|n| kept.join(layer_name(n)))))
        })
    };
    let beside_podman = Pairs::measure(PAIRS, ours, podman)?;
    let beside_tar = Pairs::measure(PAIRS, ours, tar)?;
    let what = "pull of 500 MB in two layers";
    Ok(vec![
        Row::of_pairs(what, "podman pull", &beside_podman, 0.35),
        Row::of_pairs(what, "tar xzf of the layers", &beside_tar, 0.6),
    ])
}

/// Runs `work` in a folder of its own, with nothing left to be written by others.
///
/// The folder stays for now: ext4 does not use an inode again for minutes
/// (`recently_deleted` in the kernel's fs/ext4/ialloc.c), and goes through all of
/// those for every file it makes, so what follows a removal of many files is slow.
fn in_fresh_folder<T>(folder: &Path, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let place = tempfile::Builder::new().prefix("run-").tempdir_in(folder)?;
    let place = place.keep();
    tool("sync", [""; 0])?;
    let result = work(&place);
    // podman leaves a mount of its storage on itself.
    drop(tool(
        "umount",
        ["-q".as_ref(), place.join("root/overlay").as_os_str()],
    ));
    result
}

fn layer_name(number: usize) -> String {
    format!("layer-{number}.tar.gz")
}

/// The layers and the storage of a registry that has the image; made once, and
/// kept in the user's cache.
fn image() -> Result<PathBuf> {
    let kept = fixture::cache()?.join("bench-image");
    let _lock = fixture::lock(&kept.with_extension("lock"))?;
    if !kept.is_dir() {
        eprintln!("making the image to pull, kept in {}", kept.display());
        let parent = kept.parent().context("the cache has no parent folder")?;
        let work = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(parent)?;
        make(work.path())?;
        fs::rename(work.keep(), &kept)?;
    }
    Ok(kept)
}

fn make(folder: &Path) -> Result<()> {
    let mut files = files()?.into_iter();
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for number in 0..LAYERS {
        let tar = layer(&mut files)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&tar)?;
        let gzip = gzip.finish()?;
        fs::write(folder.join(layer_name(number)), &gzip)?;
        diff_ids.push(digest(&tar));
        layers.push(gzip);
    }
    let layout = folder.join("layout");
    Image::of(&layers, &diff_ids).write_layout(&layout)?;
    let storage = folder.join("storage");
    fs::create_dir(&storage)?;
    let registry = Registry::start(&storage, folder)?;
    let target = format!("docker://{}/bench:1", registry.address());
    let source = format!("oci:{}", layout.display());
    let copy = [
        "--insecure-policy",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
    ];
    tool("skopeo", copy.iter().copied().chain([&*source, &*target]))?;
    Ok(fs::remove_dir_all(&layout)?)
}

/// A tar of as many of `files` as make up a layer.
fn layer(files: &mut impl Iterator<Item = PathBuf>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut bytes = 0;
    while bytes < LAYER_BYTES {
        let path = files
            .next()
            .context("this machine has too few files for the image")?;
        let name = path.strip_prefix("/")?;
        let file = File::open(&path).and_then(|file| file.metadata().map(|it| (file, it)));
        let Ok((mut file, metadata)) = file else {
            continue;
        };
        bytes += metadata.len();
        archive
            .append_file(name, &mut file)
            .map_err(io::Error::other)?;
    }
    Ok(archive.into_inner()?)
}

/// Ordinary files of this machine, in a fixed order.
fn files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(PathBuf::from).collect();
    folders.reverse();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && metadata.len() <= LARGEST_FILE {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
