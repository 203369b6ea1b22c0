//! `-v`: folders and files of the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_folder_is_read_and_written,
            a_read_only_folder_refuses_writing,
            a_file_can_be_a_volume,
            several_volumes,
            a_missing_source_is_named,
            malformed_volumes_are_refused,
            a_target_is_made_where_missing,
            a_relative_source_is_the_hosts,
            files_made_there_are_the_users,
            changes_of_the_host_are_seen,
            volumes_nest,
        ],
    }
}

/// `SRC:DST` with further options.
fn volume(source: &Path, rest: &str) -> String {
    format!("{}:{rest}", source.display())
}

fn a_folder_is_read_and_written(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::write(folder.path().join("from-host"), "host\n")?;
    let script = "cat /mnt/from-host && echo container >/mnt/from-container && mkdir /mnt/sub && mv /mnt/from-host /mnt/sub/moved";
    let output = world
        .run_with(
            &["-v", &volume(folder.path(), "/mnt")],
            ["sh", "-c", script],
        )
        .output()?;
    output.success()?.stdout_is("host\n")?;
    same(
        "content",
        &fs::read_to_string(folder.path().join("from-container"))?,
        &"container\n".to_owned(),
    )?;
    same(
        "content",
        &fs::read_to_string(folder.path().join("sub/moved"))?,
        &"host\n".to_owned(),
    )
}

fn a_read_only_folder_refuses_writing(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::create_dir(folder.path().join("sub"))?;
    fs::write(folder.path().join("file"), "kept\n")?;
    let script = "cat /mnt/file; for f in /mnt/file /mnt/new /mnt/sub/new; do (echo x >$f) 2>/dev/null && echo wrote $f; done; rm /mnt/file 2>/dev/null && echo removed; true";
    let output = world
        .run_with(
            &["-v", &volume(folder.path(), "/mnt:ro")],
            ["sh", "-c", script],
        )
        .output()?;
    output.success()?.stdout_is("kept\n")?;
    Ok(())
}

fn a_file_can_be_a_volume(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("one.conf");
    fs::write(&file, "from the host\n")?;
    let script = "cat /etc/one.conf && echo changed >/etc/one.conf";
    let output = world
        .run_with(
            &["-v", &volume(&file, "/etc/one.conf")],
            ["sh", "-c", script],
        )
        .output()?;
    output.success()?.stdout_is("from the host\n")?;
    same(
        "content",
        &fs::read_to_string(&file)?,
        &"changed\n".to_owned(),
    )?;
    // Over a file of the image, and read-only.
    let script = "cat /data/file; echo x 2>/dev/null >/data/file || echo refused";
    let output = world
        .run_with(
            &["-v", &volume(&file, "/data/file:ro")],
            ["sh", "-c", script],
        )
        .output()?;
    output.stdout_is("changed\nrefused\n")?;
    Ok(())
}

fn several_volumes(world: &World) -> Result<()> {
    let (one, two) = (world.temp()?, world.temp()?);
    fs::write(one.path().join("n"), "1\n")?;
    fs::write(two.path().join("n"), "2\n")?;
    let options = [
        "-v",
        &volume(one.path(), "/one"),
        "-v",
        &volume(two.path(), "/two:ro"),
    ];
    let output = world
        .run_with(&options, ["cat", "/one/n", "/two/n"])
        .output()?;
    output.success()?.stdout_is("1\n2\n")?;
    Ok(())
}

fn a_missing_source_is_named(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let missing = folder.path().join("not-there");
    let output = world
        .run_with(&["-v", &volume(&missing, "/mnt")], ["true"])
        .output()?;
    output.fails_with(125, "not-there")?;
    ensure!(!missing.exists(), "it was made");
    Ok(())
}

fn malformed_volumes_are_refused(world: &World) -> Result<()> {
    for text in [
        "tmp",
        "",
        ":",
        "/tmp:",
        ":/x",
        "/tmp:relative",
        "/tmp:/x:what",
        "/tmp:/x:ro:rw",
    ] {
        let output = world.run_with(&["-v", text], ["true"]).output()?;
        output.fails_with(125, "volume")?;
    }
    Ok(())
}

fn a_target_is_made_where_missing(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::write(folder.path().join("file"), "x\n")?;
    let target = "/srv/made/on/the/way";
    let output = world
        .run_with(
            &["-v", &volume(folder.path(), target)],
            ["cat", &format!("{target}/file")],
        )
        .output()?;
    output.success()?.stdout_is("x\n")?;
    Ok(())
}

fn a_relative_source_is_the_hosts(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::create_dir(folder.path().join("sub"))?;
    fs::write(folder.path().join("sub/file"), "relative\n")?;
    let output = world
        .run_with(&["-v", "./sub:/mnt"], ["cat", "/mnt/file"])
        .current_dir(folder.path())
        .output()?;
    output.success()?.stdout_is("relative\n")?;
    Ok(())
}

fn files_made_there_are_the_users(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let script =
        "umask; touch /mnt/root && chmod 640 /mnt/root && chown 1000:1000 /mnt/root && echo fine";
    let mounted = volume(folder.path(), "/mnt");
    let output = world
        .run_with(&["-v", &mounted], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("0022\nfine\n")?;
    let made = fs::metadata(folder.path().join("root"))?;
    same("mode", &(made.mode() & 0o7777), &0o640)?;
    let output = world
        .run_with(&["-v", &mounted, "-u", "alice"], ["touch", "/mnt/alice"])
        .output()?;
    output.success()?;
    ensure!(
        folder.path().join("alice").exists(),
        "alice's file is not there"
    );
    Ok(())
}

fn changes_of_the_host_are_seen(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let container = world.start(&["-v", &volume(folder.path(), "/mnt")], &["sleep", "1000"])?;
    for text in ["first\n", "second, longer\n"] {
        fs::write(folder.path().join("file"), text)?;
        let output = container.exec(&[], &["cat", "/mnt/file"]).output()?;
        output.success()?.stdout_is(text)?;
    }
    Ok(())
}

fn volumes_nest(world: &World) -> Result<()> {
    let (outer, inner) = (world.temp()?, world.temp()?);
    fs::create_dir(outer.path().join("in"))?;
    fs::write(inner.path().join("file"), "inner\n")?;
    let options = [
        "-v",
        &volume(outer.path(), "/mnt"),
        "-v",
        &volume(inner.path(), "/mnt/in:ro"),
    ];
    let script = "cat /mnt/in/file; touch /mnt/outer; touch /mnt/in/x 2>/dev/null || echo refused";
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    output.success()?.stdout_is("inner\nrefused\n")?;
    ensure!(
        outer.path().join("outer").exists(),
        "nothing was written to the outer one"
    );
    Ok(())
}
