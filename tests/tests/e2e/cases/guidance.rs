//! What isolazi says of itself: help, manual pages, and completion by shells.

use std::fs;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

use super::listing::said;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            completion_knows_verbs_and_names,
            completion_starts_nothing,
            scripts_for_shells_are_printed,
            manual_pages_are_written,
            help_is_by_theme_and_guesses,
        ],
    }
}

/// What bash is offered for these words, the last being under way.
fn offered(world: &World, words: &[&str]) -> Result<Vec<String>> {
    let mode = if world.is_vm() { &["--vm"][..] } else { &[] };
    let words = [&["isolazi"], mode, words].concat();
    let output = world
        .bare(["--"])
        .args(&words)
        .env("ISOLAZI_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .output()?
        .success()?
        .stderr_is("")?;
    Ok(output.stdout_text().lines().map(str::to_owned).collect())
}

fn completion_knows_verbs_and_names(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let ended = world.start(&[], &["true"])?;
    ended.wait_status("exited")?;
    let has = |words: &[&str], what: &str, wanted: bool| -> Result<()> {
        let offered = offered(world, words)?;
        let found = offered.iter().any(|it| it == what);
        ensure!(found == wanted, "{what} for {words:?}: {offered:?}");
        Ok(())
    };
    has(&["in"], "inspect", true)?;
    has(&["in"], "images", false)?;
    has(&["ps", "--fo"], "--format", true)?;
    has(&["stop", ""], container.name(), true)?;
    has(&["stop", ""], ended.name(), false)?;
    has(&["rm", ended.name()], ended.name(), true)?;
    has(&["rm", "x-nobody"], container.name(), false)?;
    has(&["run", ""], &world.busybox(), true)?;
    has(&["completion", ""], "zsh", true)
}

fn completion_starts_nothing(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    same("names", &offered(&fresh, &["stop", "n"])?, &vec![])?;
    same("images", &offered(&fresh, &["run", "b"])?, &vec![])?;
    ensure!(
        !fresh.root().exists(),
        "completing made {}",
        fresh.root().display()
    );
    Ok(())
}

fn scripts_for_shells_are_printed(world: &World) -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(world, &["completion", shell])?;
        ensure!(
            script.contains("ISOLAZI_COMPLETE") && script.contains("isolazi"),
            "{script}"
        );
    }
    // A shell that takes the script completes with it.
    let script = said(world, &["completion", "bash"])?;
    let asking = format!(
        "{script}\nCOMP_WORDS=(isolazi vers) COMP_CWORD=1 COMP_TYPE=9\n_clap_complete_isolazi isolazi vers isolazi\necho \"${{COMPREPLY[*]}}\""
    );
    let completed = isolazi_tests::command::tool("bash", ["--norc", "-c", &asking])?;
    same("what bash completes", &completed.trim(), &"version")?;
    world
        .isolazi(["completion", "tcsh"])
        .output()?
        .fails_with(2, "tcsh")?;
    Ok(())
}

fn manual_pages_are_written(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let dir = folder.path().join("man/man1");
    said(world, &["man", &dir.display().to_string()])?;
    for (page, has) in [
        ("isolazi.1", "isolazi\\-ps(1)"),
        ("isolazi-ps.1", "\\-\\-format"),
        ("isolazi-vm-status.1", "\\-\\-format"),
    ] {
        let text = fs::read_to_string(dir.join(page)).with_context(|| page.to_owned())?;
        ensure!(text.contains(".TH") && text.contains(has), "{page}: {text}");
    }
    ensure!(said(world, &["man"])?.contains(".TH isolazi 1"), "no title");
    let output = world.isolazi(["man", "/proc/nothing"]).output()?;
    output.fails_with(1, "cannot write manual pages to /proc/nothing")?;
    Ok(())
}

fn help_is_by_theme_and_guesses(world: &World) -> Result<()> {
    let help = said(world, &["help"])?;
    for theme in ["Containers:", "Images:", "Machine:", "General:", "Options:"] {
        ensure!(
            help.contains(&format!("\n{theme}\n")),
            "{theme} is not in {help}"
        );
    }
    same("--help", &said(world, &["--help"])?, &help)?;
    let of_verb = said(world, &["help", "ps"])?;
    ensure!(of_verb.contains("--no-trunc"), "{of_verb}");
    for (args, text) in [
        (
            &["rnu"][..],
            "'rnu'; a similar subcommand exists: 'run'; see isolazi help",
        ),
        (
            &["inspct", "x"],
            "similar subcommands exist: 'list', 'inspect'",
        ),
        (
            &["ps", "--al"],
            "a similar argument exists: '--all'; see isolazi help ps",
        ),
        (&["help", "nothing"], "nothing"),
    ] {
        world.isolazi(args).output()?.fails_with(2, text)?;
    }
    Ok(())
}
