//! Listings as people and their scripts read them: forms, filters, columns.

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::world::Container;
use isolazi_tests::{Case, World};
use serde_json::Value;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            ps_prints_in_the_form_that_is_asked_for,
            ps_filters_and_counts,
            ps_knows_what_a_container_has_written,
            what_a_container_is_called_cannot_disturb_the_terminal,
            inspect_prints_single_fields,
            images_print_in_the_form_that_is_asked_for,
            images_can_be_filtered,
            a_bad_template_is_one_line_that_names_the_place,
            versions_can_be_read_by_scripts,
            the_machine_can_be_read_by_scripts,
        ],
    }
}

/// `isolazi ARGS`, which must succeed; its output without the last newline.
pub(super) fn said(world: &World, args: &[&str]) -> Result<String> {
    let output = world.isolazi(args).output()?.success()?;
    Ok(output.stdout_text().trim_end_matches('\n').to_owned())
}

/// `ps ARGS` of this one container.
fn ps_of(world: &World, container: &Container<'_>, args: &[&str]) -> Result<String> {
    let name = format!("name=^{}$", container.name());
    said(world, &[&["ps", "-a", "--filter", &name], args].concat())
}

fn ps_prints_in_the_form_that_is_asked_for(world: &World) -> Result<()> {
    let container = world.start(&["-v", "/:/host:ro"], &["sleep", "1000"])?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (name, image) = (container.name(), world.busybox());
    let line: Value = serde_json::from_str(&ps_of(world, &container, &["--format", "json"])?)?;
    for (field, expected) in [
        ("ID", &id[..12]),
        ("Names", name),
        ("Image", &image),
        ("Command", "\"sleep 1000\""),
        ("State", "running"),
        ("Mounts", "/"),
        ("Networks", "bridge"),
        ("LocalVolumes", "0"),
        ("Isolation", if world.is_vm() { "vm" } else { "process" }),
    ] {
        same(field, &line[field].as_str(), &Some(expected))?;
    }
    let status = line["Status"].as_str().unwrap_or_default();
    ensure!(status.starts_with("Up "), "{line}");
    let template = "{{.Names}}\t{{.State | upper}}{{if eq .State \"running\"}}!{{end}}";
    same(
        "a template",
        &ps_of(world, &container, &["--format", template])?,
        &format!("{name}\tRUNNING!"),
    )?;
    let table = ps_of(
        world,
        &container,
        &["--format", r"table {{.ID}}\t{{.Names}}"],
    )?;
    same(
        "a table",
        &table,
        &format!("CONTAINER ID   NAMES\n{}   {name}", &id[..12]),
    )?;
    let plain = ps_of(world, &container, &[])?;
    let head: Vec<_> = plain
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .collect();
    let head: Vec<_> = head
        .into_iter()
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    same(
        "the columns",
        &head,
        &vec![
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "ISOLATION",
            "NAMES",
        ],
    )?;
    same(
        "quiet",
        &ps_of(world, &container, &["-q"])?,
        &id[..12].to_owned(),
    )?;
    same(
        "in full",
        &ps_of(world, &container, &["-q", "--no-trunc"])?,
        &id,
    )
}

fn ps_filters_and_counts(world: &World) -> Result<()> {
    let first = world.start(&["-v", "/tmp:/data"], &["sleep", "1000"])?;
    let second = world.start(&[], &["sh", "-c", "exit 7"])?;
    second.wait_status("exited")?;
    let third = world.start(&[], &["sleep", "1000"])?;
    let listed = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["ps", "--format", "{{.Names}}"];
        filters
            .iter()
            .for_each(|filter| args.extend(["--filter", filter]));
        let names = said(world, &args)?;
        // Other cases have containers of their own.
        let all = [&first, &second, &third];
        let ours = names
            .lines()
            .filter(|it| all.iter().any(|one| one.name() == *it));
        Ok(ours.map(str::to_owned).collect())
    };
    let image = world.busybox();
    let id = first.inspect()?["Image"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let after_first = format!("since={}", first.name());
    let before_third = format!("before={}", third.name());
    let running = [third.name(), first.name()];
    for (filters, expected) in [
        (&[][..], &running[..]),
        (&["status=exited"], &[second.name()]),
        (&["exited=7"], &[second.name()]),
        (&["exited=8"], &[]),
        (&[&*format!("ancestor={image}")], &running),
        (&[&*format!("ancestor={id}")], &running),
        (&["ancestor=another"], &[]),
        (&[&*after_first], &[third.name()]),
        (
            &[&*after_first, "status=exited", "status=running"],
            &[third.name(), second.name()],
        ),
        (&[&*before_third, "volume=/data"], &[first.name()]),
        (&["volume=/tmp"], &[first.name()]),
        (&["label=nobody.has.this"], &[]),
    ] {
        same(
            &format!("{filters:?}"),
            &listed(filters)?.as_slice(),
            &expected
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .as_slice(),
        )?;
    }
    let two = said(world, &["ps", "-n", "2", "-q"])?;
    same("-n 2", &two.lines().count(), &2)?;
    same("-l", &said(world, &["ps", "-l", "-q"])?.lines().count(), &1)?;
    for (filter, text) in [
        ("colour=red", "no filter 'colour'"),
        ("status=gone", "no status 'gone'"),
        ("before=nobody-at-all", "no such container: nobody-at-all"),
        ("plain", "not KEY=VALUE"),
    ] {
        let output = world.isolazi(["ps", "--filter", filter]).output()?;
        output.fails_with(1, text)?;
    }
    Ok(())
}

fn ps_knows_what_a_container_has_written(world: &World) -> Result<()> {
    let script =
        "dd if=/dev/zero of=/file bs=1024 count=3000 2>/dev/null; echo written; sleep 1000";
    let container = world.start(&[], &["sh", "-c", script])?;
    container.wait_log("written")?;
    let size = ps_of(world, &container, &["--format", "{{.Size}}"])?;
    ensure!(size.starts_with("3.") && size.ends_with("MB"), "{size}");
    let table = ps_of(world, &container, &["-s"])?;
    ensure!(table.contains("SIZE") && table.contains(&size), "{table}");
    let without = ps_of(world, &container, &[])?;
    ensure!(!without.contains("SIZE"), "{without}");
    Ok(())
}

fn what_a_container_is_called_cannot_disturb_the_terminal(world: &World) -> Result<()> {
    let container = world.start(
        &["-e", "EVIL=a\u{1b}[2Jb\u{9b}c"],
        &["echo", "\u{1b}[31m\tred\n\u{9b}x"],
    )?;
    container.wait_status("exited")?;
    let listings = [
        ps_of(world, &container, &[])?,
        ps_of(world, &container, &["--no-trunc"])?,
        ps_of(world, &container, &["--format", "json", "--no-trunc"])?,
        ps_of(
            world,
            &container,
            &["--format", "{{.Command}} {{upper .Command}}"],
        )?,
        said(world, &["inspect", container.name()])?,
        said(
            world,
            &[
                "inspect",
                "-f",
                "{{.Config.Env}} {{join .Config.Cmd \" \"}}",
                container.name(),
            ],
        )?,
        said(world, &["inspect", "-f", "{{json .}}", container.name()])?,
    ];
    for listing in listings {
        let raw = listing.chars().find(|c| c.is_control() && *c != '\n');
        ensure!(raw.is_none(), "{raw:?} in {listing:?}");
    }
    // In JSON it is all there.
    let command = said(
        world,
        &["inspect", "-f", "{{json .Args}}", container.name()],
    )?;
    let command: Vec<String> = serde_json::from_str(&command)?;
    same("the argument", &&*command[0], &"\u{1b}[31m\tred\n\u{9b}x")
}

fn inspect_prints_single_fields(world: &World) -> Result<()> {
    let container = world.start(&["-v", "/tmp:/a", "-v", "/tmp:/b"], &["sleep", "1000"])?;
    let name = container.name();
    let field = |template: &str| said(world, &["inspect", "--format", template, name]);
    same("nested", &&*field("{{.State.Status}}")?, &"running")?;
    same(
        "a range",
        &&*field("{{range .Mounts}}{{.Destination}} {{end}}")?,
        &"/a /b ",
    )?;
    same(
        "an index",
        &&*field("{{(index .Mounts 1).Destination}}")?,
        &"/b",
    )?;
    same(
        "joined",
        &&*field("{{join .Config.Cmd \",\"}}")?,
        &"sleep,1000",
    )?;
    let state: Value = serde_json::from_str(&field("{{json .State}}")?)?;
    same("json", &state["Running"], &Value::Bool(true))?;
    let both = said(world, &["inspect", "-f", "{{.Name}}", name, name])?;
    same("a line each", &both, &format!("{name}\n{name}"))?;
    let output = world
        .isolazi(["inspect", "-f", "{{.Nme}}", name])
        .output()?;
    output.fails_with(1, "there is no field Nme")?;
    let output = world
        .isolazi(["inspect", "-f", "{{.Name}}", "nobody-at-all", name])
        .output()?;
    output
        .fails_with(1, "no such container or image: nobody-at-all")?
        .stdout_is(&format!("{name}\n"))?;
    Ok(())
}

fn images_print_in_the_form_that_is_asked_for(world: &World) -> Result<()> {
    let image = world.busybox();
    world.isolazi(["pull", "-q", &image]).output()?.success()?;
    let repository = image.strip_suffix(":1").context("the image has no tag 1")?;
    let line = said(world, &["images", "--format", "json", &image])?;
    let line: Value = serde_json::from_str(&line)?;
    same(
        "Repository",
        &line["Repository"].as_str(),
        &Some(repository),
    )?;
    same("Tag", &line["Tag"].as_str(), &Some("1"))?;
    let id = line["ID"].as_str().unwrap_or_default();
    let full = said(world, &["images", "-q", "--no-trunc", &image])?;
    ensure!(
        full.len() == 71 && full.starts_with(&format!("sha256:{id}")),
        "{full} {id}"
    );
    let digest = said(world, &["images", "--format", "{{.Digest}}", &image])?;
    ensure!(digest.starts_with("sha256:") && digest != full, "{digest}");
    let table = said(world, &["images", "--digests", &image])?;
    ensure!(
        table.contains("DIGEST") && table.contains(&digest),
        "{table}"
    );
    let table = said(
        world,
        &["images", "--format", r"table {{.Tag}}\t{{.Size}}", &image],
    )?;
    ensure!(table.starts_with("TAG       SIZE\n1         "), "{table}");
    Ok(())
}

fn images_can_be_filtered(world: &World) -> Result<()> {
    let image = world.busybox();
    let repository = image.strip_suffix(":1").context("the image has no tag 1")?;
    world.isolazi(["pull", "-q", &image]).output()?.success()?;
    let digest = said(world, &["images", "--format", "{{.Digest}}", &image])?;
    let pinned = format!("{repository}@{digest}");
    world.isolazi(["pull", "-q", &pinned]).output()?.success()?;
    let tags = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["images", "--format", "{{.Tag}}", repository];
        filters
            .iter()
            .for_each(|filter| args.extend(["--filter", filter]));
        let mut tags: Vec<_> = said(world, &args)?.lines().map(str::to_owned).collect();
        tags.sort();
        Ok(tags)
    };
    same(
        "all",
        &tags(&[])?,
        &vec!["1".to_owned(), "<none>".to_owned()],
    )?;
    same(
        "dangling",
        &tags(&["dangling=true"])?,
        &vec!["<none>".to_owned()],
    )?;
    same(
        "not dangling",
        &tags(&["dangling=false"])?,
        &vec!["1".to_owned()],
    )?;
    same(
        "by pattern",
        &tags(&["reference=*/busy*:1"])?,
        &vec!["1".to_owned()],
    )?;
    same("by label", &tags(&["label=nobody.has.this"])?, &vec![])?;
    let output = world
        .isolazi(["images", "--filter", "since=nothing"])
        .output()?;
    output.fails_with(1, "no such image: nothing")?;
    Ok(())
}

fn a_bad_template_is_one_line_that_names_the_place(world: &World) -> Result<()> {
    for (args, text) in [
        (
            ["ps", "--format", "table {{.Nope}}"],
            "character 3 ('.nope}}'): there is no field nope",
        ),
        (
            ["ps", "--format", "{{.ID"],
            "character 1 ('{{.id'): '{{' lacks its '}}'",
        ),
        (["images", "--format", "{{range .}}"], "lacks its {{end}}"),
        (
            ["version", "--format", "{{nope}}"],
            "there is no function 'nope'",
        ),
        (
            ["version", "--format", "{{.Client.Nope}}"],
            "there is no field nope",
        ),
    ] {
        let output = world.isolazi(args).output()?;
        output.fails_with(1, text)?.stdout_is("")?;
    }
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(20_000), ")".repeat(20_000));
    let output = world.isolazi(["ps", "--format", &deep]).output()?;
    output.fails_with(1, "nested too deep")?;
    Ok(())
}

fn versions_can_be_read_by_scripts(world: &World) -> Result<()> {
    // The machine has to run for its version to be known.
    world.run(["true"]).output()?.success()?;
    let versions = said(
        world,
        &["version", "-f", "{{.Client.Version}} {{.Server.Version}}"],
    )?;
    let (client, server) = versions.split_once(' ').context("there are not two")?;
    same("the agent's", &server, &client)?;
    let kernel = said(world, &["version", "--format", "{{.Server.KernelVersion}}"])?;
    let inside = world
        .run(["uname", "-r"])
        .output()?
        .success()?
        .stdout_text();
    same("the kernel's", &&*kernel, &inside.trim_end())?;
    let whole: Value = serde_json::from_str(&said(world, &["version", "--format", "json"])?)?;
    same("Os", &whole["Server"]["Os"].as_str(), &Some("linux"))
}

fn the_machine_can_be_read_by_scripts(world: &World) -> Result<()> {
    let state = said(world, &["vm", "status", "--format", "{{.State}}"])?;
    let expected: &[&str] = match world.is_vm() {
        true => &["running", "booting"],
        false => &["stopped"],
    };
    ensure!(expected.contains(&&*state), "{state}");
    let whole: Value = serde_json::from_str(&said(world, &["vm", "status", "--format", "json"])?)?;
    same(
        "whether it has a process",
        &whole["Pid"].is_u64(),
        &(state == "running"),
    )?;
    let folder = said(world, &["vm", "info", "--format", "{{.Machine}}"])?;
    same(
        "the folder",
        &folder,
        &world.root().join("machine").display().to_string(),
    )
}
