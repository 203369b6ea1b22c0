//! Compiles the init that `run --init` puts in a container, with the compiler
//! that builds this crate. It uses no library, so a static program comes out
//! of it wherever Rust can link for Linux at all.
//!
//! Where it cannot be linked it is left out, and asking for it says so.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "init/main.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(embedded_init)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    match build()? {
        Ok(()) => println!("cargo::rustc-cfg=embedded_init"),
        Err(reason) => println!("cargo::warning=left out the init of `run --init`: {reason}"),
    }
    Ok(())
}

/// The best way that works here: the linker that comes with Rust, else the system's.
fn build() -> Result<Result<(), String>, Box<dyn Error>> {
    let output = PathBuf::from(env::var("OUT_DIR")?).join("init");
    let target = env::var("TARGET")?;
    let attempts: [&[&str]; 2] = [
        &[
            "-Clinker=rust-lld",
            "-Clinker-flavor=ld.lld",
            "-Clink-self-contained=no",
        ],
        &[
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static",
        ],
    ];
    let mut reason = String::new();
    for arguments in attempts {
        match compile(&target, arguments, &output)? {
            Ok(()) => return Ok(Ok(())),
            Err(error) => reason = error,
        }
    }
    Ok(Err(reason))
}

fn compile(
    target: &str,
    arguments: &[&str],
    output: &Path,
) -> Result<Result<(), String>, Box<dyn Error>> {
    let result = Command::new(env::var("RUSTC")?)
        .args(["--crate-name", "init", "--edition", "2024", SOURCE, "-o"])
        .arg(output)
        .args(["--target", target, "-Cpanic=abort", "-Cstrip=symbols"])
        .args(["-Copt-level=s", "-Clto=fat", "-Ccodegen-units=1"])
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .args(arguments)
        .output()?;
    Ok(match result.status.success() {
        true => Ok(()),
        false => Err(first_line(&result.stderr)),
    })
}

fn first_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().next().unwrap_or("no reason given").to_owned()
}
