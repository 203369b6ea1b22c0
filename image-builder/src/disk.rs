//! The template of the data disk: a small ext4 file system that a machine
//! copies, enlarges, and grows online.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use isolazi_protocol::appliance::DATA_TEMPLATE;

use crate::cache::{Cache, Names, Piece};
use crate::command::{self, Log};
use crate::error::BuildError;
use crate::files::failed;
use crate::key::Key;
use crate::progress::Progress;
use crate::tools::{self, Tool};

/// To be counted up when the way a disk is made changes.
const RECIPE: u32 = 1;
/// Small, because it is hashed before it is copied; two whole block groups, with
/// room for the journal, which may take at most half.
const BYTES: u64 = 256 << 20;

const MKE2FS: Tool = Tool::program("mke2fs", "e2fsprogs");

/// Everything is said here, so that a system's mke2fs.conf has no part in it.
///
/// - The block group descriptors have room to grow to 2 TiB in place
///   (`resize`, in blocks); beyond, the kernel turns to `meta_bg` by itself.
/// - Metadata of 256 block groups lies together (`-G`): growing to 64 GiB then
///   takes 0.35 s instead of 0.66, to 1 TiB 8 s instead of 18 (emulated).
/// - The journal has the size that mke2fs gives a 16 GiB disk; it does not
///   grow later.
/// - Tables are cleared by the kernel when they are first used.
/// - Nothing is reserved for root, which everything here is.
const OPTIONS: &[&str] = &[
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-i",
    "16384",
    "-m",
    "0",
    "-L",
    "isolazi",
    "-G",
    "256",
    "-J",
    "size=64",
    "-O",
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
     sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
    "-E",
    "resize=536870912,lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
];

/// The template, made now unless it was before.
pub(crate) fn provide(cache: &Cache, progress: &mut Progress<'_>) -> Result<Piece, BuildError> {
    let mut key = Key::new("data", RECIPE).with(BYTES.to_string());
    for option in OPTIONS {
        key = key.with(option);
    }
    if let Some(piece) = cache.find("data", &key, DATA_TEMPLATE) {
        progress.say("data disk, made before");
        return Ok(piece);
    }
    tools::ensure(&[MKE2FS], progress)?;
    progress.say("making the data disk …");
    let log = Log::create(cache.log("data"))?;
    cache.make("data", &key, &Names::only(DATA_TEMPLATE), |work| {
        make(&work.join(DATA_TEMPLATE), &log)
    })
}

fn make(path: &Path, log: &Log) -> Result<String, BuildError> {
    let create = || File::create_new(path)?.set_len(BYTES);
    create().map_err(failed("create", path))?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.env("PATH", tools::search_path());
    command::output(mke2fs.args(OPTIONS).arg(path), log)?;
    Ok("ext4".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use std::os::unix::fs::MetadataExt;

    fn has_mke2fs() -> bool {
        let said = Command::new("mke2fs")
            .arg("-V")
            .env("PATH", tools::search_path())
            .output();
        said.is_ok()
    }

    #[test]
    fn the_template_is_small_and_can_grow() {
        if !has_mke2fs() {
            eprintln!("skipped: no mke2fs here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(dir.path().join("log")).unwrap();
        let path = dir.path().join("disk");
        make(&path, &log).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(found.len(), BYTES);
        assert!(found.blocks() * 512 < 8 << 20, "{}", found.blocks());
        let mut dump = Command::new("dumpe2fs");
        dump.arg("-h").arg(&path).env("PATH", tools::search_path());
        let said = command::output(&mut dump, &log).unwrap();
        for expected in ["resize_inode", "64bit", "metadata_csum", "isolazi"] {
            assert!(said.contains(expected), "{expected} not in:\n{said}");
        }
        assert!(files::entry_of_file(&path).is_ok());
    }
}
