//! Compiles the program of the embedded image `hello` for Linux on the target's
//! processor, with the compiler that builds this crate.
//!
//! Where no static Linux program can be linked (macOS and Windows without the
//! musl target), the image is left out, and asking for it says so.

use std::env;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

const SOURCE: &str = "hello/main.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(embedded_hello)");
    println!("cargo::rustc-check-cfg=cfg(compiled_bundle)");
    compile_bundle_in()?;
    discard_unwind_tables()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let rustc = Rustc::from_environment()?;
    rustc.watch_targets();
    match rustc.build_hello() {
        Ok(()) => {
            compress(&rustc.output)?;
            println!("cargo::rustc-cfg=embedded_hello");
        }
        Err(reason) => println!("cargo::warning=left out the image `hello`: {reason}"),
    }
    Ok(())
}

/// An appliance as one file, to be compiled in: for systems where a program's file
/// cannot be lengthened once it is signed (macOS).
const BUNDLE: &str = "ISOLAZI_BUNDLE";

fn compile_bundle_in() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={BUNDLE}");
    let Some(named) = env::var_os(BUNDLE).filter(|value| !value.is_empty()) else {
        return Ok(());
    };
    let file = std::fs::canonicalize(&named)
        .map_err(|error| format!("{BUNDLE}={}: {error}", named.display()))?;
    println!("cargo::rerun-if-changed={}", file.display());
    println!("cargo::rustc-env={BUNDLE}={}", file.display());
    println!("cargo::rustc-cfg=compiled_bundle");
    Ok(())
}

/// In a release a panic does not unwind, so no tables for that are needed, which are an
/// eighth of the program. The compiler puts them in, for debuggers; the linkers know how to
/// leave them out.
fn discard_unwind_tables() -> Result<(), Box<dyn Error>> {
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|it| it == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return Ok(());
    }
    let script = PathBuf::from(env::var("OUT_DIR")?).join("discard.ld");
    std::fs::write(
        &script,
        "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) } } INSERT AFTER .text;\n",
    )?;
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    Ok(())
}

/// As the program is needed seldom, and travels in every program of isolazi's.
fn compress(file: &Path) -> Result<(), Box<dyn Error>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&std::fs::read(file)?)?;
    std::fs::write(file.with_extension("gz"), encoder.finish()?)?;
    Ok(())
}

struct Rustc {
    program: PathBuf,
    /// `lib/rustlib` of the toolchain.
    library: PathBuf,
    architecture: String,
    /// The target this crate is built for is GNU/Linux, on this very system.
    native_gnu: bool,
    output: PathBuf,
}

impl Rustc {
    fn from_environment() -> Result<Self, Box<dyn Error>> {
        let program = PathBuf::from(env::var("RUSTC")?);
        let answer = Command::new(&program)
            .args(["--print", "sysroot"])
            .output()?;
        let sysroot = String::from_utf8(answer.stdout)?;
        let target = env::var("TARGET")?;
        Ok(Self {
            library: Path::new(sysroot.trim()).join("lib/rustlib"),
            architecture: env::var("CARGO_CFG_TARGET_ARCH")?,
            native_gnu: target == env::var("HOST")? && target.ends_with("-linux-gnu"),
            output: PathBuf::from(env::var("OUT_DIR")?).join("hello"),
            program,
        })
    }

    /// Builds again when the list of installed targets changes.
    fn watch_targets(&self) {
        let components = self.library.join("components");
        if components.exists() {
            println!("cargo::rerun-if-changed={}", components.display());
        }
    }

    /// The best way that works here: musl with the linker and C library that
    /// come with Rust, musl with the system's linker, the system's C library.
    fn build_hello(&self) -> Result<(), String> {
        let musl = format!("{}-unknown-linux-musl", self.architecture);
        let mut reason = format!("needs `rustup target add {musl}`");
        if self.library.join(&musl).join("lib").is_dir() {
            let target = ["--target", musl.as_str()];
            let own_linker = ["-Clinker=rust-lld", "-Clinker-flavor=ld.lld"];
            let attempts = [[target.as_slice(), &own_linker].concat(), target.to_vec()];
            for arguments in attempts {
                match self.compile(&arguments) {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error,
                }
            }
        }
        match self.native_gnu {
            true => self.compile(&[]),
            false => Err(reason),
        }
    }

    fn compile(&self, arguments: &[&str]) -> Result<(), String> {
        let result = Command::new(&self.program)
            .args(["--crate-name", "hello", "--edition", "2024", SOURCE, "-o"])
            .arg(&self.output)
            .args(["-Copt-level=s", "-Clto=fat", "-Ccodegen-units=1"])
            .args(["-Cpanic=abort", "-Cstrip=symbols"])
            .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
            .args(arguments)
            .output()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        match result.status.success() {
            true => Ok(()),
            false => Err(first_line(&result.stderr)),
        }
    }
}

fn first_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().next().unwrap_or("no reason given").to_owned()
}
