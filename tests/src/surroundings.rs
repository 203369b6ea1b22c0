//! What tests and benches find on this machine: the program, the appliance, and
//! what is missing.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::fixture;
use crate::mode::Mode;

/// Whether this is continuous integration, where nothing may be missing.
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Which of the programs that the images are made with are missing.
pub fn tools_lack() -> Option<String> {
    let missing: Vec<_> = fixture::TOOLS
        .iter()
        .filter(|tool| fixture::find(tool).is_none())
        .copied()
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

/// Why containers cannot run on this machine's kernel.
pub fn native_lacks() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Why they cannot run in a virtual machine.
pub fn vm_lacks() -> Option<String> {
    let qemu = format!("qemu-system-{}", env::consts::ARCH);
    if fixture::find(&qemu).is_none() {
        return Some(format!("{qemu} is not installed"));
    }
    if !rustix::process::geteuid().is_root() {
        // The images are made with the owners that their files are to have.
        return Some("making the images needs root".to_owned());
    }
    let appliance = appliance().ok()?;
    (!appliance.is_dir()).then(|| {
        format!(
            "no appliance in {}; `cargo run --release -p isolazi-image-builder -- build` makes it",
            appliance.display()
        )
    })
}

/// Why a mode's stand-in cannot be used.
pub fn stand_in_lacks(mode: Mode) -> Option<String> {
    let (name, _) = mode.stand_in()?;
    match built(name) {
        Ok(path) if path.is_file() => {}
        _ => return Some(format!("{name} is not built")),
    }
    let appliance = appliance().ok()?;
    (!appliance.is_dir()).then(|| format!("no appliance in {}", appliance.display()))
}

/// What cargo has put beside this program.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let profile = own.parent().and_then(Path::parent);
    Ok(profile.context("no target folder")?.join(name))
}

/// The Windows program: `ISOLAZI_WINDOWS_BIN`, or what cargo has made for Windows.
pub fn windows_program() -> Result<PathBuf> {
    if let Some(named) = env::var_os("ISOLAZI_WINDOWS_BIN") {
        return Ok(std::path::absolute(named)?);
    }
    let target = built("..")?;
    Ok(target.join("x86_64-pc-windows-gnu/debug/isolazi.exe"))
}

/// The appliance that machines boot: `ISOLAZI_APPLIANCE`, or the user's own.
pub fn appliance() -> Result<PathBuf> {
    if let Some(named) = env::var_os("ISOLAZI_APPLIANCE") {
        return Ok(named.into());
    }
    let data = dirs::data_dir().context("this user has no data folder; set XDG_DATA_HOME")?;
    Ok(data.join("isolazi/appliance").join(env::consts::ARCH))
}

/// The appliance for another processor: `ISOLAZI_APPLIANCE_` and its name, or the
/// user's own.
pub fn foreign_appliance(arch: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os(format!("ISOLAZI_APPLIANCE_{arch}")) {
        return Ok(named.into());
    }
    let data = dirs::data_dir().context("this user has no data folder; set XDG_DATA_HOME")?;
    Ok(data.join("isolazi/appliance").join(arch))
}

/// The program under test: `ISOLAZI_BIN`, or what cargo put beside this one.
pub fn program() -> Result<PathBuf> {
    let program = match env::var_os("ISOLAZI_BIN") {
        Some(named) => PathBuf::from(named),
        None => built("isolazi")?,
    };
    let program = std::path::absolute(program)?;
    ensure!(
        program.is_file(),
        "{} is not there; `cargo build -p isolazi` makes it, or name another in ISOLAZI_BIN",
        program.display()
    );
    Ok(program)
}
