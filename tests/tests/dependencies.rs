//! The direction of dependencies, as CONTRIBUTING.md has it, and where a few
//! things may be said at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const PROTOCOL: &str = "isolazi-protocol";
const AGENT: &str = "isolazi-agent";
const HOST: &str = "isolazi";
const VSOCK_DEVICE: &str = "isolazi-vsock-device";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(args: &[&str]) -> Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .arg("--locked")
        .current_dir(top())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {args:?}: {said}");
    Ok(output.stdout)
}

fn metadata(args: &[&str]) -> Result<Value> {
    let all = [&["metadata", "--format-version=1"], args].concat();
    Ok(serde_json::from_slice(&cargo(&all)?)?)
}

/// One line of a manifest's dependencies.
#[derive(Debug)]
struct Dependency {
    name: String,
    target: Option<String>,
    kind: String,
}

fn dependencies(package: &str) -> Result<Vec<Dependency>> {
    let metadata = metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let found = packages.iter().find(|p| p["name"] == package);
    let found = found.with_context(|| format!("there is no package {package}"))?;
    let listed = found["dependencies"]
        .as_array()
        .context("no dependencies")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let dependencies = listed.iter().map(|d| Dependency {
        name: text(&d["name"]).unwrap_or_default(),
        target: text(&d["target"]),
        kind: text(&d["kind"]).unwrap_or_else(|| "normal".to_owned()),
    });
    Ok(dependencies.collect())
}

fn own(package: &str) -> Result<BTreeSet<String>> {
    let all = dependencies(package)?.into_iter();
    let shipped = all.filter(|d| d.kind != "dev" && d.name.starts_with(HOST));
    Ok(shipped.map(|d| d.name).collect())
}

#[test]
fn the_protocol_knows_nobody() -> Result<()> {
    let known = own(PROTOCOL)?;
    ensure!(known.is_empty(), "it depends on {known:?}");
    Ok(())
}

#[test]
fn the_agent_knows_the_protocol_only() -> Result<()> {
    let known = own(AGENT)?;
    ensure!(known.iter().eq([PROTOCOL]), "it depends on {known:?}");
    Ok(())
}

#[test]
fn the_vsock_device_knows_nobody() -> Result<()> {
    let known = own(VSOCK_DEVICE)?;
    ensure!(known.is_empty(), "it depends on {known:?}");
    Ok(())
}

#[test]
fn the_host_knows_the_agent_and_the_vsock_device_on_linux_only() -> Result<()> {
    let all = dependencies(HOST)?;
    let linux = Some("cfg(target_os = \"linux\")");
    for name in [AGENT, VSOCK_DEVICE] {
        let found: Vec<_> = all.iter().filter(|d| d.name == name).collect();
        ensure!(
            !found.is_empty() && found.iter().all(|d| d.target.as_deref() == linux),
            "it depends on {found:?}"
        );
    }
    let others: Vec<_> = own(HOST)?
        .into_iter()
        .filter(|name| ![AGENT, PROTOCOL, VSOCK_DEVICE].contains(&name.as_str()))
        .collect();
    ensure!(others.is_empty(), "it depends on {others:?}");
    Ok(())
}

/// A package that links a C library says so by `links`, and one that compiles C
/// needs the crate `cc`: neither can be in a static agent without a C toolchain.
#[test]
fn the_agent_is_pure_rust() -> Result<()> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let metadata = metadata(&["--filter-platform", &target])?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let reached = shipped(&target)?;
    ensure!(reached.len() > 20, "the graph is not whole: {reached:?}");
    // Its `links` names a file of constants, not a library.
    let harmless = ["rustix", "libc", "prettyplease", "rayon-core"];
    let linking: Vec<_> = packages
        .iter()
        .filter(|p| reached.contains(&named(p)))
        .filter(|p| !p["links"].is_null() || p["name"] == "cc" || p["name"] == "pkg-config")
        .filter_map(|p| p["name"].as_str())
        .filter(|name| !harmless.contains(name))
        .collect();
    ensure!(linking.is_empty(), "in C: {linking:?}");
    Ok(())
}

/// What is built into the agent, as `NAME vVERSION`. Only `cargo tree` leaves out what a
/// feature would turn on that nobody has.
fn shipped(target: &str) -> Result<BTreeSet<String>> {
    let tree = ["tree", "-p", AGENT, "--edges=normal,build", "--prefix=none"];
    let tree = cargo(&[&tree[..], &["--target", target, "--format={p}"]].concat())?;
    let lines = String::from_utf8(tree)?;
    let package = |line: &str| {
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        words.join(" ")
    };
    Ok(lines.lines().map(package).collect())
}

fn named(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    format!("{} v{}", text("name"), text("version"))
}

/// Source files below `folder` whose text has one of `words`, comments left out.
fn naming(folder: &str, words: &[&str]) -> Result<BTreeSet<String>> {
    let mut naming = BTreeSet::new();
    let mut folders = vec![top().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && says(&path, words)? {
                let inside = path.strip_prefix(top())?;
                naming.insert(inside.display().to_string());
            }
        }
    }
    Ok(naming)
}

fn says(path: &Path, words: &[&str]) -> Result<bool> {
    let text = fs::read_to_string(path)?;
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    Ok(code
        .into_iter()
        .any(|line| words.iter().any(|word| line.contains(word))))
}

#[test]
fn the_host_calls_the_agent_from_two_places() -> Result<()> {
    let found = naming("host/src", &["isolazi_agent"])?;
    let allowed = ["host/src/lib.rs", "host/src/machine/native.rs"];
    let others: Vec<_> = found
        .iter()
        .filter(|f| !allowed.contains(&f.as_str()))
        .collect();
    ensure!(others.is_empty(), "also from {others:?}");
    Ok(())
}

#[test]
fn system_calls_know_no_domain_type() -> Result<()> {
    let rooms = [
        "cgroup",
        "container",
        "guest",
        "launch",
        "rootfs",
        "seccomp",
        "server",
        "shim",
        "userns",
    ];
    let words: Vec<String> = rooms.iter().map(|room| format!("crate::{room}")).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("isolazi_protocol");
    let found = naming("guest-agent/src/sys", &words)?;
    ensure!(found.is_empty(), "{found:?} do");
    Ok(())
}

#[test]
fn only_the_codec_names_bincode() -> Result<()> {
    let mut found = BTreeSet::new();
    for folder in ["host", "guest-agent", "image-builder"] {
        found.extend(naming(folder, &["bincode::"])?);
    }
    ensure!(
        found.iter().eq(["guest-agent/protocol/src/codec.rs"]),
        "{found:?} do"
    );
    Ok(())
}

#[test]
fn unsafe_code_is_in_sys_only() -> Result<()> {
    for crate_folder in ["host/src", "guest-agent/src", "image-builder/src"] {
        let found = naming(
            crate_folder,
            &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        )?;
        let elsewhere: Vec<_> = found
            .iter()
            .filter(|file| !file.contains("/src/sys/") && !file.ends_with("/src/sys.rs"))
            .collect();
        ensure!(elsewhere.is_empty(), "also in {elsewhere:?}");
    }
    Ok(())
}
