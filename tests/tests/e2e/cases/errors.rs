//! What is asked wrongly, and registries that cannot or will not: one line that
//! says what and what to do, and nothing half-done left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::handmade::{Image, Layer, gzip};
use isolazi_tests::registry::free_address;
use isolazi_tests::stub::{Answer, Stub};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            malformed_references,
            an_unknown_image_or_tag,
            a_registry_that_is_down,
            a_registry_that_does_not_exist,
            refusals_of_a_registry,
            a_blob_that_is_missing,
            a_blob_of_another_content,
            a_blob_that_is_cut_short,
            a_blob_longer_than_declared,
            corrupt_compression,
            a_layer_of_another_content_than_the_configuration_says,
            manifests_that_are_none,
            a_manifest_without_end,
            plain_http_is_for_the_loopback,
        ],
        NativeOnly: [
            a_data_root_that_cannot_be_used,
        ],
    }
}

/// `pull` of `reference` fails in one line with `text`, nothing is left of it,
/// and the same words are `run`'s.
fn fails(world: &World, reference: &str, text: &str) -> Result<()> {
    let before = stored(&world.root())?;
    let pull = world
        .isolazi(["pull", reference])
        .timeout(world.patience(60));
    pull.output()?.fails_with(1, text)?;
    let run = world.isolazi(["run", "--rm", reference, "true"]);
    run.timeout(world.patience(60))
        .output()?
        .fails_with(125, text)?;
    let new: Vec<_> = stored(&world.root())?
        .difference(&before)
        .cloned()
        .collect();
    // Other cases pull at the same time, but none of what this one names.
    let name = reference.split('/').next_back().unwrap_or(reference);
    let name = name.split([':', '@']).next().unwrap_or(name);
    let left: Vec<_> = new.iter().filter(|path| path.contains(name)).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// All files of the image store.
fn stored(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![root.join("images")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => {
                    files.insert(entry.path().display().to_string());
                }
            }
        }
    }
    Ok(files)
}

/// What one case needs to see that a broken pull leaves no blob: a store of its own.
fn alone<T>(world: &World, check: impl FnOnce(&World) -> Result<T>) -> Result<T> {
    if world.is_vm() {
        return check(world);
    }
    let folder = world.temp()?;
    check(&world.fresh(folder.path()))
}

fn malformed_references(world: &World) -> Result<()> {
    for reference in [
        "",
        " ",
        "UPPER/case",
        "a//b",
        "name:",
        "name:tag:more",
        "name@sha256:short",
        "name@md5:d41d8cd98f00b204e9800998ecf8427e",
        "../../etc/passwd",
        "-dash",
        "na me",
        "registry.example:port/name",
        "localhost:5000/",
        &format!("localhost:5000/{}", "x".repeat(300)),
    ] {
        let output = world.isolazi(["pull", "--", reference]).output()?;
        output.fails_with(1, "image")?;
        let output = world.isolazi(["run", "--rm", "--", reference]).output()?;
        output.fails_with(125, "image")?;
    }
    Ok(())
}

fn an_unknown_image_or_tag(world: &World) -> Result<()> {
    fails(world, &world.image("no/such-image:1"), "no/such-image")?;
    fails(world, &world.image("busybox:no-such-tag"), "no-such-tag")
}

fn a_registry_that_is_down(world: &World) -> Result<()> {
    let address = free_address()?;
    fails(world, &format!("{address}/down:1"), &address.to_string())
}

fn a_registry_that_does_not_exist(world: &World) -> Result<()> {
    fails(world, "registry.invalid/nowhere:1", "registry.invalid")
}

fn refusals_of_a_registry(world: &World) -> Result<()> {
    for (status, words) in [(401, "login"), (403, "login"), (429, "429"), (500, "500")] {
        let stub = Stub::start()?;
        let body = r#"{"errors":[{"code":"X","message":"m\u001b[31m\nsecond line"}]}"#;
        let answer = Answer::status(status, body).header("Content-Type", "application/json");
        stub.set("/v2/refused/manifests/1", answer);
        let reference = format!("{}/refused:1", stub.address());
        let output = world
            .isolazi(["pull", &reference])
            .timeout(world.patience(90))
            .output()?;
        let said = output.stderr_text();
        ensure!(
            !said.contains('\x1b'),
            "{}",
            output.complaint("a registry's escapes reach the terminal")
        );
        output.fails_with(1, words)?;
    }
    Ok(())
}

/// An image that no other case has, so that none of its layers is there already.
fn honest(name: &str) -> Result<Image> {
    let layer = Layer::default()
        .folder("bin/")?
        .file("bin/file", name)?
        .tar()?;
    Image::new(&[layer])
}

fn a_blob_that_is_missing(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("missing-blob")?;
    let reference = stub.serve("missing-blob", &image);
    let path = format!("/v2/missing-blob/blobs/{}", image.layer(0));
    stub.set(&path, Answer::status(404, "{}"));
    alone(world, |world| {
        fails(world, &reference, &image.layer(0)[7..19])
    })
}

fn a_blob_of_another_content(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("other-blob")?;
    let reference = stub.serve("other-blob", &image);
    let mut other = image.blobs[0].1.clone();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    let path = format!("/v2/other-blob/blobs/{}", image.layer(0));
    stub.set(&path, Answer::ok("application/octet-stream", other));
    alone(world, |world| fails(world, &reference, "sha256:"))?;
    // Served right, it is pulled.
    stub.serve("other-blob", &image);
    world.isolazi(["pull", &reference]).output()?.success()?;
    Ok(())
}

fn a_blob_that_is_cut_short(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("short-blob")?;
    let reference = stub.serve("short-blob", &image);
    let blob = &image.blobs[0].1;
    let path = format!("/v2/short-blob/blobs/{}", image.layer(0));
    let cut = Answer::ok("application/octet-stream", &blob[..blob.len() / 2]);
    stub.set(&path, cut.clone().announcing(blob.len()));
    alone(world, |world| fails(world, &reference, "broke"))?;
    stub.set(&path, cut);
    alone(world, |world| fails(world, &reference, "wrong size"))
}

fn a_blob_longer_than_declared(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("long-blob")?;
    let reference = stub.serve("long-blob", &image);
    let mut long = image.blobs[0].1.clone();
    long.resize(long.len() + (4 << 20), 0);
    let path = format!("/v2/long-blob/blobs/{}", image.layer(0));
    stub.set(&path, Answer::ok("application/octet-stream", long));
    alone(world, |world| fails(world, &reference, "wrong size"))
}

fn corrupt_compression(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let tar = Layer::default()
        .file("file", &"content ".repeat(10_000))?
        .tar()?;
    let diff_id = isolazi_tests::handmade::digest(&tar);
    let mut layer = gzip(&tar)?;
    let middle = layer.len() / 2;
    layer[middle..].fill(0xff);
    let image = Image::of(
        &[layer, b"no gzip at all".to_vec()],
        &[diff_id.clone(), diff_id],
    );
    let reference = stub.serve("corrupt", &image);
    alone(world, |world| fails(world, &reference, "layer"))
}

fn a_layer_of_another_content_than_the_configuration_says(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let tar = Layer::default().file("file", "content")?.tar()?;
    let claimed = format!("sha256:{}", "1".repeat(64));
    let image = Image::of(&[gzip(&tar)?], &[claimed]);
    let reference = stub.serve("other-diff-id", &image);
    alone(world, |world| fails(world, &reference, "sha256:111"))
}

fn manifests_that_are_none(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("no-manifests")?;
    let oci = image.media_type.clone();
    let edited = |edit: fn(&mut serde_json::Value)| image.clone().edited(edit).manifest;
    for (name, manifest) in [
        ("no-json", b"<html>not found</html>".to_vec()),
        ("empty", Vec::new()),
        ("both", edited(|m| m["manifests"] = serde_json::json!([]))),
        (
            "digest-path",
            edited(|m| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into()),
        ),
        ("negative", edited(|m| m["layers"][0]["size"] = (-1).into())),
        (
            "no-config",
            edited(|m| m["config"] = serde_json::Value::Null),
        ),
    ] {
        stub.serve(name, &image);
        stub.set(
            &format!("/v2/{name}/manifests/1"),
            Answer::ok(&oci, manifest),
        );
        fails(world, &format!("{}/{name}:1", stub.address()), "manifest")?;
    }
    Ok(())
}

fn a_manifest_without_end(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = honest("endless")?;
    let endless = Answer::ok(&image.media_type, vec![b' '; 64 << 20]).announcing(usize::MAX >> 1);
    stub.set("/v2/endless/manifests/1", endless);
    fails(world, &format!("{}/endless:1", stub.address()), "manifest")
}

fn plain_http_is_for_the_loopback(world: &World) -> Result<()> {
    // TLS is spoken to what is not the loopback, and nobody answers it there.
    let output = world
        .isolazi(["pull", "192.0.2.1:5000/name:1"])
        .timeout(Duration::from_secs(120))
        .output()?;
    output.fails_with(1, "192.0.2.1:5000")?;
    Ok(())
}

fn a_data_root_that_cannot_be_used(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("a-file");
    fs::write(&file, "x")?;
    let output = world.isolazi(["ps"]).env("ISOLAZI_HOME", &file).output()?;
    output.fails_with(1, "a-file")?;
    same("content", &fs::read_to_string(&file)?, &"x".to_owned())
}
