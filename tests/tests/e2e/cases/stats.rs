//! `top` and `stats`: what runs in containers, and what that uses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            top_lists_the_processes_of_a_container,
            top_takes_options_of_ps,
            top_says_why_it_cannot,
            stats_tells_what_a_container_uses,
            stats_of_a_busy_container_shows_its_processor,
            stats_goes_on_until_it_is_interrupted,
            stats_says_why_it_cannot,
        ],
    }
}

fn top_lists_the_processes_of_a_container(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "sleep 1001 & sleep 1002"])?;
    container
        .exec(
            &["-u", "alice"],
            &["sh", "-c", "sleep 1003 >/dev/null 2>&1 &"],
        )
        .output()?;
    let listed = eventually(world.patience(10), "three sleeps", || {
        let top = world
            .isolazi(["top", container.name()])
            .output()?
            .success()?;
        let lines: Vec<_> = top.stdout_text().lines().map(str::to_owned).collect();
        let sleeps = lines
            .iter()
            .filter(|line| line.contains(" sleep 100"))
            .count();
        Ok((sleeps >= 2).then_some(lines))
    })?;
    let heads: Vec<_> = listed[0].split_whitespace().collect();
    same(
        "heads",
        &heads.join(" "),
        &"UID PID PPID C STIME TTY TIME CMD".to_owned(),
    )?;
    let sleep = listed.iter().find(|line| line.ends_with("sleep 1002"));
    let cells: Vec<_> = sleep.context("no sleep 1002")?.split_whitespace().collect();
    same("user", &cells[0], &"root")?;
    same("terminal", &cells[5], &"?")?;
    same("time", &cells[6], &"00:00:00")?;
    ensure!(
        cells[1].parse::<u32>()? > 1,
        "an id of the machine's: {cells:?}"
    );
    Ok(())
}

fn top_takes_options_of_ps(world: &World) -> Result<()> {
    let container = world.start(&["-u", "alice"], &["sleep", "1000"])?;
    let top = |options: &[&str]| -> Result<String> {
        let top = world
            .isolazi(["top", container.name()])
            .args(options)
            .output()?;
        Ok(top.success()?.stdout_text())
    };
    let columns = top(&["-o", "uid,comm,args"])?;
    let lines: Vec<Vec<&str>> = columns
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    same("heads", &lines[0].join(" "), &"UID COMM CMD".to_owned())?;
    same(
        "process",
        &lines[1].join(" "),
        &"1000 sleep sleep 1000".to_owned(),
    )?;
    let wide = top(&["aux"])?;
    ensure!(wide.starts_with("USER") && wide.contains("%CPU"), "{wide}");
    let refused = world
        .isolazi(["top", container.name(), "--forest"])
        .output()?;
    refused.fails_with(1, "'--forest' is not an option")?;
    Ok(())
}

fn top_says_why_it_cannot(world: &World) -> Result<()> {
    world
        .isolazi(["top", "nobody"])
        .output()?
        .fails_with(1, "no such container: nobody")?;
    let container = world.container();
    let run = world
        .isolazi(["run", "--name", container.name()])
        .args([world.busybox()]);
    run.args(["true"]).output()?.success()?;
    let ended = world.isolazi(["top", container.name()]).output()?;
    ended.fails_with(1, "is not running")?;
    Ok(())
}

/// The cells of the row of a container.
fn row(text: &str, name: &str) -> Result<Vec<String>> {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(name));
    let cells = line
        .with_context(|| format!("no {name} in {text}"))?
        .split("   ");
    Ok(cells
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect())
}

fn stats_tells_what_a_container_uses(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "sleep 1001 & wait"])?;
    let output = world
        .isolazi(["stats", "--no-stream", container.name()])
        .output()?;
    let text = output.success()?.stdout_text();
    let heads = "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS";
    let first: Vec<_> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    same("heads", &first.join(" "), &heads.to_owned())?;
    let cells = row(&text, container.name())?;
    same("cells", &cells.len(), &8)?;
    let id = container.inspect()?["Id"].as_str().unwrap_or_default()[..12].to_owned();
    same("id", &cells[0], &id)?;
    ensure!(
        cells[2].ends_with('%') && cells[4].ends_with('%'),
        "{cells:?}"
    );
    let (used, limit) = cells[3].split_once(" / ").context("no limit")?;
    ensure!(
        !used.starts_with("0B") && limit.ends_with("iB"),
        "{cells:?}"
    );
    same("processes", &cells[7], &"2".to_owned())?;
    // Without a name it lists whatever runs.
    let all = world
        .isolazi(["stats", "--no-stream"])
        .output()?
        .success()?;
    all.stdout_has(container.name())?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    let ended = world
        .isolazi(["stats", "--no-stream", container.name()])
        .output()?;
    let cells = row(&ended.success()?.stdout_text(), container.name())?;
    let nothing = ["0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"];
    same(
        "of an ended one",
        &cells[2..].to_vec(),
        &nothing.map(str::to_owned).to_vec(),
    )
}

fn stats_of_a_busy_container_shows_its_processor(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "while :; do :; done"])?;
    let output = world
        .isolazi(["stats", "--no-stream", container.name()])
        .output()?;
    let cells = row(&output.success()?.stdout_text(), container.name())?;
    let share: f64 = cells[2].trim_end_matches('%').parse()?;
    ensure!((5.0..150.0).contains(&share), "{share}% of a processor");
    Ok(())
}

fn stats_goes_on_until_it_is_interrupted(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let mut stats = world
        .isolazi(["stats", container.name()])
        .hold_stdin()
        .spawn()?;
    stats.wait_for(container.name())?;
    std::thread::sleep(Duration::from_millis(1500));
    stats.signal(Signal::INT)?;
    let output = stats.wait()?.success()?;
    let rows = output.stdout_text().matches(container.name()).count();
    ensure!(rows >= 2, "{rows} looks");
    output.stderr_is("")?;
    Ok(())
}

fn stats_says_why_it_cannot(world: &World) -> Result<()> {
    let unknown = world.isolazi(["stats", "--no-stream", "nobody"]).output()?;
    unknown.fails_with(1, "no such container: nobody")?;
    Ok(())
}
