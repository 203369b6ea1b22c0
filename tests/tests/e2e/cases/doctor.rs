//! `isolazi doctor`: it finds what is wrong, says how to mend it, and changes nothing.

use std::fs;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, Output, World};
use serde_json::Value;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_place_that_works_is_found_well,
            broken_settings_are_named,
            a_data_root_that_cannot_be_written_is_named,
        ],
        NativeOnly: [
            looking_changes_nothing,
            a_missing_hypervisor_is_a_warning_here,
        ],
        VmOnly: [a_missing_hypervisor_is_an_error_there],
    }
}

const PLACES: [&str; 2] = ["this host's kernel", "virtual machine"];

/// The finding about a subject, in a place.
fn finding(output: &Output, place: &str, subject: &str) -> Result<Value> {
    let report = output.json()?;
    let findings = report["Findings"].as_array().context("findings")?;
    let fits = |it: &&Value| it["Place"] == place && it["Subject"] == subject;
    let found = findings.iter().find(fits);
    found
        .cloned()
        .with_context(|| format!("no '{subject}' of '{place}' in {report:#}"))
}

fn a_place_that_works_is_found_well(world: &World) -> Result<()> {
    world.run(["true"]).output()?.success()?;
    let output = world
        .isolazi(["doctor", "--format", "json"])
        .output()?
        .success()?;
    same("healthy", &output.json()?["Healthy"], &Value::Bool(true))?;
    let place = PLACES[usize::from(world.is_vm())];
    for subject in ["kernel", "namespaces", "overlayfs", "seccomp", "network"] {
        let found = finding(&output, place, subject)?;
        ensure!(found["Grade"] == "ok", "{found:#}");
    }
    let cgroups = finding(&output, place, "cgroups")?["State"].to_string();
    let version = if world.has_appliances_kernel() {
        "version 2"
    } else {
        "version"
    };
    ensure!(cgroups.contains(version), "{cgroups}");
    let lines = world.isolazi(["doctor"]).output()?.success()?;
    lines
        .stdout_has(place)?
        .stdout_has("ok       kernel: Linux ")?;
    Ok(())
}

fn broken_settings_are_named(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let other = world.fresh(folder.path());
    fs::create_dir_all(other.root())?;
    fs::write(
        other.root().join("config.toml"),
        "[machine]\ncpus = \"many\"\n",
    )?;
    let output = other.isolazi(["doctor"]).output()?.code(1)?;
    output.stdout_has("config.toml, line 2")?.stdout_has("→ ")?;
    Ok(())
}

fn a_data_root_that_cannot_be_written_is_named(world: &World) -> Result<()> {
    let output = world
        .isolazi([
            "doctor",
            "--root",
            "/proc/no-such-place",
            "--format",
            "json",
        ])
        .output()?
        .code(1)?;
    let found = finding(&output, "isolazi", "data")?;
    same("grade", &found["Grade"], &Value::from("error"))
}

fn looking_changes_nothing(world: &World) -> Result<()> {
    let state = || -> Result<String> {
        let links = fs::read_to_string("/proc/net/dev")?.lines().count();
        let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
        let rules = isolazi_tests::command::tool("nft", ["list", "ruleset"])?;
        Ok(format!("{links} {forwards} {rules}"))
    };
    let before = state()?;
    world.isolazi(["doctor"]).output()?.success()?;
    same("the machine", &state()?, &before)
}

/// What it says where QEMU is not on the PATH.
fn without_hypervisor(world: &World) -> Result<Output> {
    let folder = world.temp()?;
    let empty = folder.path().join("bin");
    fs::create_dir(&empty)?;
    world
        .isolazi(["doctor", "--format", "json"])
        .env("PATH", &empty)
        .output()
}

fn a_missing_hypervisor_is_a_warning_here(world: &World) -> Result<()> {
    let output = without_hypervisor(world)?.success()?;
    let found = finding(&output, PLACES[1], "hypervisor")?;
    same("grade", &found["Grade"], &Value::from("warning"))
}

fn a_missing_hypervisor_is_an_error_there(world: &World) -> Result<()> {
    let output = without_hypervisor(world)?.code(1)?;
    let found = finding(&output, PLACES[1], "hypervisor")?;
    same("grade", &found["Grade"], &Value::from("error"))?;
    let remedy = found["Remedy"].to_string();
    ensure!(
        remedy.contains("apt-get install qemu-system-x86"),
        "{remedy}"
    );
    Ok(())
}
