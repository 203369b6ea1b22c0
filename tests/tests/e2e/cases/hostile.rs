//! Layers that want out of their folder, and containers that want too much.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::{Case, World};
use tar::EntryType;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            layers_that_climb,
            images_whose_system_folders_are_links,
            a_fork_bomb_ends_at_its_limit,
        ],
        NativeOnly: [
            layers_are_as_large_as_the_settings_allow,
        ],
    }
}

/// Pulling `layers` fails or stays inside, and writes nothing to `mark`.
fn harmless(world: &World, name: &str, layers: &[Vec<u8>], mark: &std::path::Path) -> Result<()> {
    let stub = Stub::start()?;
    let reference = stub.serve(name, &Image::new(layers)?);
    let output = world
        .isolazi(["pull", &reference])
        .timeout(world.patience(60))
        .output()?;
    ensure!(
        !mark.exists(),
        "{}",
        output.complaint(&format!("{name} got out"))
    );
    if !output.is_success() {
        output.has_one_complaint()?;
        let listed = world.isolazi(["images"]).output()?.success()?;
        listed.stdout_lacks(&format!("/{name} "))?;
    }
    Ok(())
}

fn layers_are_as_large_as_the_settings_allow(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    fs::create_dir_all(fresh.root())?;
    let stub = Stub::start()?;
    let layer = Layer::default().file("data", &"x".repeat(2 << 20))?;
    let image = stub.serve("large", &Image::new(&[layer.tar()?])?);
    let settings = |text: &str| fs::write(fresh.root().join("config.toml"), text);
    settings("[layers]\nlargest = \"1m\"\n")?;
    let pull = fresh.isolazi(["pull", &image]).output()?;
    pull.fails_with(1, "more than 1048576 bytes when unpacked (see [layers]")?;
    fresh.isolazi(["images", "-q"]).output()?.stdout_is("")?;
    settings("[layers]\nlargest = \"3m\"\n")?;
    fresh.isolazi(["pull", &image]).output()?.success()?;
    settings("[layers]\nlargest = \"much\"\n")?;
    let images = fresh.isolazi(["images"]).output()?;
    images.fails_with(1, "config.toml, line 2: ")?;
    Ok(())
}

fn layers_that_climb(world: &World) -> Result<()> {
    let outside = world.temp()?;
    let mark = outside.path().join("mark");
    let at = mark.display().to_string();
    let there = outside.path().display().to_string();
    let up = "../".repeat(12);
    let climbing = format!("{up}{}", at.trim_start_matches('/'));
    let cases: Vec<(&str, Vec<Layer>)> = vec![
        ("dots", vec![Layer::default().file(&climbing, "out")?]),
        ("absolute", vec![Layer::default().file(&at, "out")?]),
        (
            "through-link",
            vec![
                Layer::default()
                    .symlink("way", &there)?
                    .file("way/mark", "out")?,
            ],
        ),
        (
            "through-link-of-another-layer",
            vec![
                Layer::default().symlink("way", &there)?,
                Layer::default().file("way/mark", "out")?,
            ],
        ),
        (
            "hard-link",
            vec![Layer::default().link("passwd", "../../../../../../etc/passwd")?],
        ),
        (
            "whiteout-dots",
            vec![Layer::default().file("x/.wh...", "")?],
        ),
        ("whiteout-dot", vec![Layer::default().file("x/.wh..", "")?]),
        ("whiteout-bare", vec![Layer::default().file("x/.wh.", "")?]),
        (
            "block-device",
            vec![Layer::default().entry(EntryType::Block, "disk", "", b"")?],
        ),
        (
            "parent-is-file",
            vec![Layer::default().file("a", "file")?.file("a/b", "below")?],
        ),
    ];
    for (name, layers) in cases {
        let layers = layers
            .into_iter()
            .map(Layer::tar)
            .collect::<Result<Vec<_>>>()?;
        harmless(world, name, &layers, &mark)?;
    }
    // A whiteout through a link must not delete what is outside.
    fs::write(&mark, "kept")?;
    let layer = Layer::default()
        .symlink("way", &there)?
        .file("way/.wh.mark", "")?
        .tar()?;
    let stub = Stub::start()?;
    let reference = stub.serve("whiteout-link", &Image::new(&[layer])?);
    world.isolazi(["pull", &reference]).output()?;
    ensure!(mark.exists(), "a whiteout deleted a file of the host");
    Ok(())
}

fn images_whose_system_folders_are_links(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    for name in ["proc", "dev", "sys", "etc"] {
        let layer = Layer::default()
            .symlink(name, "/tmp")?
            .folder("tmp/")?
            .tar()?;
        let reference = stub.serve(&format!("linked-{name}"), &Image::new(&[layer])?);
        let output = world.isolazi(["run", "--rm", &reference]).output()?;
        // There is no program in it; what counts is that it ends in words.
        output.has_one_complaint()?;
    }
    Ok(())
}

fn a_fork_bomb_ends_at_its_limit(world: &World) -> Result<()> {
    let container = world.container();
    // Each child starts two more and waits, so that nothing ends by itself.
    let script = "b() { b & b & wait; }; b 2>/dev/null";
    world
        .isolazi([
            "run",
            "-d",
            "--name",
            container.name(),
            &world.busybox(),
            "sh",
            "-c",
            script,
        ])
        .output()?
        .success()?;
    world
        .run(["echo", "others run"])
        .output()?
        .success()?
        .stdout_is("others run\n")?;
    world
        .isolazi(["rm", "-f", container.name()])
        .timeout(world.patience(60))
        .output()?
        .success()?;
    ensure!(!container.is_listed()?, "it is still there");
    Ok(())
}
