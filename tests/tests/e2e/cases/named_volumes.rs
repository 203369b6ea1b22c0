//! Volumes: made by name or with a container, filled from the image, removed.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::handmade::{Image, Layer, architecture, digest, gzip};
use isolazi_tests::stub::Stub;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_volume_outlives_its_containers,
            a_volume_is_filled_from_the_image,
            what_it_is_filled_with_is_as_it_was,
            a_volume_with_something_in_it_is_not_filled,
            links_of_the_image_lead_nowhere,
            a_volume_can_be_read_only,
            a_volume_in_use_is_not_removed,
            volumes_are_made_listed_inspected_and_removed,
            two_may_remove_at_once,
            an_images_volumes_are_anonymous,
            anonymous_volumes_go_with_their_container,
            pruning_takes_what_nobody_has,
            mounts_by_their_long_name,
            volumes_lie_within_volumes,
        ],
    }
}

/// A volume's name; drops take it away.
pub(super) struct Volume<'a> {
    name: String,
    world: &'a World,
}

impl<'a> Volume<'a> {
    pub(super) fn of(world: &'a World, name: &str) -> Self {
        let name = format!("{name}-{}-{}", world.mode(), std::process::id());
        Self { name, world }
    }

    /// `NAME:REST`
    pub(super) fn at(&self, rest: &str) -> String {
        format!("{}:{rest}", self.name)
    }

    fn exists(&self) -> Result<bool> {
        let listed = self
            .world
            .isolazi(["volume", "ls", "-q"])
            .output()?
            .success()?;
        Ok(listed.stdout_text().lines().any(|line| line == self.name))
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        drop(
            self.world
                .isolazi(["volume", "rm", "-f", &self.name])
                .output(),
        );
    }
}

fn sh(world: &World, volume: &str, script: &str) -> Result<String> {
    let output = world
        .run_with(&["-v", volume], ["sh", "-c", script])
        .output()?;
    Ok(output.success()?.stdout_text())
}

fn a_volume_outlives_its_containers(world: &World) -> Result<()> {
    let volume = Volume::of(world, "outlives");
    sh(world, &volume.at("/store"), "echo kept >/store/file")?;
    let text = sh(world, &volume.at("/elsewhere"), "cat /elsewhere/file")?;
    same("content", &text.as_str(), &"kept\n")
}

fn a_volume_is_filled_from_the_image(world: &World) -> Result<()> {
    let volume = Volume::of(world, "filled");
    let script = "cat /data/file; echo changed >/data/file";
    let text = sh(world, &volume.at("/data"), script)?;
    same("content", &text.as_str(), &"from the image\n")?;
    let text = sh(world, &volume.at("/data"), "cat /data/file")?;
    same("content", &text.as_str(), &"changed\n")?;
    let text = sh(world, "/none", "cat /data/file")?;
    same("the image's content", &text.as_str(), &"from the image\n")?;
    // Nothing is copied where that was asked for.
    let other = Volume::of(world, "unfilled");
    let text = sh(world, &other.at("/data:nocopy"), "ls -a /data")?;
    same("content", &text.as_str(), &".\n..\n")
}

fn what_it_is_filled_with_is_as_it_was(world: &World) -> Result<()> {
    let volume = Volume::of(world, "kinds");
    let image = world.image("debian");
    let script = "cd /opt/kinds && stat -c '%n %a %u:%g %F %Y' * . && stat -c %h hard-a && readlink symlink && getcap capable && getfattr --only-values -n user.isolazi attributed";
    let run = |options: &[&str]| -> Result<String> {
        let output = world
            .isolazi(["run", "--rm"])
            .args(options)
            .args([image.as_str(), "bash", "-c", script])
            .timeout(world.patience(120))
            .output()?;
        Ok(output.success()?.stdout_text())
    };
    let plain = run(&[])?;
    ensure!(plain.contains("1234:5678"), "{plain}");
    same("listing", &run(&["-v", &volume.at("/opt/kinds")])?, &plain)
}

fn a_volume_with_something_in_it_is_not_filled(world: &World) -> Result<()> {
    let volume = Volume::of(world, "used");
    sh(world, &volume.at("/mine"), "echo mine >/mine/own")?;
    let text = sh(world, &volume.at("/data"), "ls /data")?;
    same("content", &text.as_str(), &"own\n")
}

/// An image of busybox and what `further` adds.
fn image(
    config: &serde_json::Value,
    further: impl FnOnce(Layer) -> Result<Layer>,
) -> Result<Image> {
    let busybox = fs::read("/bin/busybox")?;
    let mut layer = Layer::default()
        .folder("bin")?
        .program("bin/busybox", &busybox)?;
    for applet in ["sh", "cat", "ls", "echo", "sleep", "touch"] {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    let layer = further(layer)?.tar()?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    Ok(Image::with_config(
        config.to_string().into_bytes(),
        &[gzip(&layer)?],
    ))
}

fn links_of_the_image_lead_nowhere(world: &World) -> Result<()> {
    let volume = Volume::of(world, "links");
    let outside = world.temp()?;
    fs::write(outside.path().join("secret"), "secret\n")?;
    let there = outside.path().display().to_string();
    let stub = Stub::start()?;
    let image = image(&json!({}), |layer| {
        layer
            .symlink("out", &there)?
            .symlink("up", &format!("../../../../..{there}"))?
            .folder("tree")?
            .symlink("tree/link", &there)?
            .file("tree/file", "inside\n")
    })?;
    let reference = stub.serve("links", &image);
    for target in ["/out", "/up", "/tree"] {
        let output = world
            .isolazi(["run", "--rm", "-v", &volume.at(target), &reference])
            .args(["sh", "-c", &format!("ls {target}/")])
            .output()?;
        output.success()?.stdout_lacks("secret")?;
    }
    let output = world
        .isolazi(["run", "--rm", "-v", &volume.at("/v"), &reference])
        .args(["sh", "-c", "cat /v/file; ls /v/link/ 2>/dev/null; true"])
        .output()?;
    output.success()?.stdout_is("inside\n")?;
    same(
        "the folder outside",
        &fs::read_dir(outside.path())?.count(),
        &1,
    )
}

fn a_volume_can_be_read_only(world: &World) -> Result<()> {
    let volume = Volume::of(world, "protected");
    let script = "cat /data/file; touch /data/x 2>/dev/null || echo refused";
    let text = sh(world, &volume.at("/data:ro"), script)?;
    same("output", &text.as_str(), &"from the image\nrefused\n")
}

fn a_volume_in_use_is_not_removed(world: &World) -> Result<()> {
    let volume = Volume::of(world, "busy");
    let container = world.start(&["-v", &volume.at("/v")], &["true"])?;
    container.wait_status("exited")?;
    let remove = || world.isolazi(["volume", "rm", &volume.name]).output();
    remove()?.fails_with(1, container.name())?;
    // Also by force, and by a removal of all.
    let output = world
        .isolazi(["volume", "rm", "-f", &volume.name])
        .output()?;
    output.fails_with(1, "in use")?;
    ensure!(volume.exists()?, "it is gone");
    world
        .isolazi(["rm", container.name()])
        .output()?
        .success()?;
    remove()?
        .success()?
        .stdout_is(&format!("{}\n", volume.name))?;
    ensure!(!volume.exists()?, "it is still there");
    Ok(())
}

fn volumes_are_made_listed_inspected_and_removed(world: &World) -> Result<()> {
    let volume = Volume::of(world, "managed");
    let create = ["volume", "create", "--label", "a=b", &volume.name];
    let name = format!("{}\n", volume.name);
    world
        .isolazi(create)
        .output()?
        .success()?
        .stdout_is(&name)?;
    // Making it again is no error and changes nothing.
    world
        .isolazi(["volume", "create", &volume.name])
        .output()?
        .success()?
        .stdout_is(&name)?;
    let listed = world.isolazi(["volume", "ls"]).output()?.success()?;
    listed
        .stdout_has("DRIVER")?
        .stdout_has("VOLUME NAME")?
        .stdout_has(&volume.name)?;
    let output = world
        .isolazi(["volume", "inspect", &volume.name])
        .output()?;
    let described = output.success()?.json()?;
    same("name", &described[0]["Name"], &json!(volume.name))?;
    same("labels", &described[0]["Labels"], &json!({ "a": "b" }))?;
    same("driver", &described[0]["Driver"], &json!("local"))?;
    let place = described[0]["Mountpoint"].as_str().unwrap_or_default();
    ensure!(
        place.ends_with(&format!("volumes/{}/_data", volume.name)),
        "{place}"
    );
    let container = world.start(&["-v", &volume.at("/v:ro")], &["true"])?;
    let mounts = container.inspect()?["Mounts"].clone();
    same("type", &mounts[0]["Type"], &json!("volume"))?;
    same("source", &mounts[0]["Source"], &json!(place))?;
    same("writable", &mounts[0]["RW"], &json!(false))?;
    drop(container);
    world
        .isolazi(["volume", "rm", &volume.name])
        .output()?
        .success()?;
    world
        .isolazi(["volume", "rm", &volume.name])
        .output()?
        .fails_with(1, &volume.name)?;
    world
        .isolazi(["volume", "rm", "-f", &volume.name])
        .output()?
        .success()?;
    world
        .isolazi(["volume", "inspect", &volume.name])
        .output()?
        .code(1)?;
    for bad in ["x", "-x", "a/b", "..", "a b"] {
        let output = world.isolazi(["volume", "create", "--", bad]).output()?;
        output.fails_with(1, "volume name")?;
    }
    Ok(())
}

fn two_may_remove_at_once(world: &World) -> Result<()> {
    for _ in 0..3 {
        let volume = Volume::of(world, "raced");
        let create = ["volume", "create", &volume.name];
        world.isolazi(create).output()?.success()?;
        let remove = || world.isolazi(["volume", "rm", &volume.name]).spawn();
        let user = world
            .run_with(
                &["-v", &volume.at("/v")],
                ["sh", "-c", "touch /v/x && ls /v"],
            )
            .spawn()?;
        let removals = [remove()?, remove()?];
        // Whoever comes first, the container has a whole volume…
        user.wait()?.success()?.stdout_is("x\n")?;
        // … and each removal does its work or says why not.
        for removal in removals {
            let output = removal.wait()?;
            let said = output.stderr_text();
            let reason = ["no such volume", "is in use by"];
            ensure!(
                output.is_success() || reason.iter().any(|it| said.contains(it)),
                "{output:?}"
            );
        }
    }
    Ok(())
}

fn with_a_volume() -> Result<Image> {
    let config = json!({ "Volumes": { "/stored": {} }, "Cmd": ["/bin/sleep", "1000"] });
    image(&config, |layer| {
        layer
            .folder("stored")?
            .file("stored/file", "of the image\n")
    })
}

/// The names of the anonymous volumes of a container.
fn anonymous(described: &serde_json::Value) -> Vec<String> {
    let mounts = described["Mounts"].as_array().cloned().unwrap_or_default();
    let names = mounts.iter().filter_map(|mount| mount["Name"].as_str());
    names
        .filter(|name| name.len() == 64)
        .map(str::to_owned)
        .collect()
}

fn an_images_volumes_are_anonymous(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = stub.serve("stored", &with_a_volume()?);
    let container = world.container();
    let run = ["run", "-d", "--name", container.name(), &image];
    world.isolazi(run).output()?.success()?;
    let output = container.exec(&[], &["cat", "/stored/file"]).output()?;
    output.success()?.stdout_is("of the image\n")?;
    let names = anonymous(&container.inspect()?);
    same("anonymous volumes", &names.len(), &1)?;
    let rm = ["rm", "-f", "-v", container.name()];
    world.isolazi(rm).output()?.success()?;
    world
        .isolazi(["volume", "inspect", &names[0]])
        .output()?
        .code(1)?;
    // A volume of the user's takes its place.
    let volume = Volume::of(world, "own");
    let output = world
        .isolazi(["run", "--rm", "-v", &volume.at("/stored/"), &image])
        .args(["cat", "/stored/file"])
        .output()?;
    output.success()?.stdout_is("of the image\n")?;
    ensure!(volume.exists()?, "the volume was not used");
    Ok(())
}

fn anonymous_volumes_go_with_their_container(world: &World) -> Result<()> {
    let named = Volume::of(world, "stays");
    let container = world.container();
    let options = [
        "run",
        "-d",
        "--rm",
        "--name",
        container.name(),
        "-v",
        "/anonymous",
        "-v",
    ];
    let command = [
        named.at("/named"),
        world.busybox(),
        "sleep".into(),
        "1000".into(),
    ];
    world.isolazi(options).args(command).output()?.success()?;
    let names = anonymous(&container.inspect()?);
    same("anonymous volumes", &names.len(), &1)?;
    world
        .isolazi(["volume", "inspect", &names[0]])
        .output()?
        .success()?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    let gone = || world.isolazi(["volume", "inspect", &names[0]]).output();
    isolazi_tests::command::eventually(world.patience(10), "the volume is gone", || {
        Ok((!gone()?.is_success()).then_some(()))
    })?;
    ensure!(named.exists()?, "the named volume went, too");
    Ok(())
}

fn pruning_takes_what_nobody_has(world: &World) -> Result<()> {
    // In a world of its own: other cases have volumes that nobody has.
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    if own.is_vm() {
        return pruned_in_company(world);
    }
    let made = own.isolazi(["volume", "create"]).output()?.success()?;
    let anonymous = made.stdout_text().trim().to_owned();
    own.isolazi(["volume", "create", "named"])
        .output()?
        .success()?;
    let asked = own
        .isolazi(["volume", "prune"])
        .stdin("n\n")
        .output()?
        .success()?;
    asked.stdout_is("")?;
    let output = own.isolazi(["volume", "prune", "-f"]).output()?.success()?;
    output.stdout_is(&format!(
        "Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 0B\n"
    ))?;
    let output = own
        .isolazi(["volume", "prune", "-a"])
        .stdin("y\n")
        .output()?
        .success()?;
    output.stdout_is("Deleted Volumes:\nnamed\n\nTotal reclaimed space: 0B\n")?;
    own.isolazi(["volume", "ls", "-q"])
        .output()?
        .success()?
        .stdout_is("")?;
    Ok(())
}

/// Where a world of its own would be a machine of its own.
fn pruned_in_company(world: &World) -> Result<()> {
    let made = world.isolazi(["volume", "create"]).output()?.success()?;
    let anonymous = made.stdout_text().trim().to_owned();
    let named = Volume::of(world, "unpruned");
    world
        .isolazi(["volume", "create", &named.name])
        .output()?
        .success()?;
    let output = world
        .isolazi(["volume", "prune", "-f"])
        .output()?
        .success()?;
    output
        .stdout_has(&anonymous)?
        .stdout_has("Total reclaimed space: ")?;
    ensure!(named.exists()?, "a named volume was pruned");
    Ok(())
}

fn mounts_by_their_long_name(world: &World) -> Result<()> {
    let volume = Volume::of(world, "long");
    let folder = world.temp()?;
    fs::write(folder.path().join("a,b"), "comma\n")?;
    let bind = format!(
        "type=bind,\"source={}/a,b\",target=/bound,readonly",
        folder.path().display()
    );
    let mount = format!("type=volume,src={},dst=/data,volume-label=x=y", volume.name);
    let options = ["--mount", &mount, "--mount", &bind];
    let script = "cat /data/file /bound; echo x 2>/dev/null >/bound || echo refused";
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    output
        .success()?
        .stdout_is("from the image\ncomma\nrefused\n")?;
    let output = world
        .isolazi(["volume", "inspect", &volume.name])
        .output()?;
    let described = output.success()?.json()?;
    same("labels", &described[0]["Labels"], &json!({ "x": "y" }))
}

fn volumes_lie_within_volumes(world: &World) -> Result<()> {
    let (outer, inner) = (Volume::of(world, "outer"), Volume::of(world, "inner"));
    // In whatever order they are given.
    let options = [
        "-v",
        &inner.at("/v/in/side"),
        "-v",
        &outer.at("/v"),
        "--tmpfs",
        "/v/in",
    ];
    let script = "touch /v/one /v/in/two /v/in/side/three";
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    output.success()?;
    same(
        "outer",
        &sh(
            world,
            &outer.at("/o"),
            "cd /o; ls -d one in in/two in/side/three 2>/dev/null; true",
        )?
        .as_str(),
        &"in\none\n",
    )?;
    same(
        "inner",
        &sh(world, &inner.at("/i"), "ls /i")?.as_str(),
        &"three\n",
    )
}
