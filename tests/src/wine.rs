//! The Windows program under wine, with a `wsl.exe` that leads to the stand-in.
//!
//! ```text
//!  isolazi.exe ─► wsl.exe (PE) ═ loopback ═► relay here ─► the stand-in, on Linux
//!        under wine                                          └─► the real agent
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::Invocation;
use crate::fixture;
use crate::surroundings::{built, windows_program};
use crate::world::World;

/// The source of the `wsl.exe` that wine starts.
const RELAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/wsl-relay.rs");
/// What wine lacks before version 9, and every program of Rust's needs.
const RANDOM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/bcryptprimitives.c");
const TARGET: &str = "x86_64-pc-windows-gnu";
/// The first start makes a registry and a drive.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where wine is, in Debian's two packages or on the PATH.
fn program() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/lib/wine/wine64");
    fixture::find("wine").or(debian.is_file().then_some(debian))
}

/// Why the Windows program cannot be tested here.
pub fn lacks() -> Option<String> {
    if program().is_none() {
        return Some("wine is not installed".to_owned());
    }
    if fixture::find("x86_64-w64-mingw32-gcc").is_none() {
        return Some("gcc-mingw-w64-x86-64 is not installed".to_owned());
    }
    match windows_program() {
        Ok(program) if program.is_file() => None,
        _ => Some(format!(
            "no isolazi.exe; cargo build -p isolazi --target {TARGET} makes it"
        )),
    }
}

/// A Windows of its own.
#[derive(Debug)]
pub struct Wine {
    wine: PathBuf,
    folder: tempfile::TempDir,
    relay: Relay,
    appliance: PathBuf,
    isolazi: PathBuf,
    /// Waits for input, and so keeps what wine starts besides from being started by
    /// anybody whose output is read to its end.
    resident: Option<Child>,
}

impl Wine {
    /// Makes one, with `wsl.exe` on its PATH.
    pub fn new(world: &World) -> Result<Self> {
        let folder = world.temp()?;
        let tools = folder.path().join("tools");
        fs::create_dir(&tools)?;
        let relay = ["--edition", "2024", "--target", TARGET, RELAY, "-o"];
        let built_relay = Command::new("rustc")
            .args(relay)
            .arg(tools.join("wsl.exe"))
            .output()?;
        let said = String::from_utf8_lossy(&built_relay.stderr).into_owned();
        anyhow::ensure!(built_relay.status.success(), "no wsl.exe: {said}");
        let prefix = folder.path().join("prefix");
        let drives = Drives(prefix.join("drive_c"));
        let mut wine = Self {
            wine: program().context("wine is not installed")?,
            relay: Relay::start(built("stand-in-wsl")?, folder.path().join("wsl"), drives)?,
            appliance: world.shared().appliance.clone(),
            isolazi: windows_program()?,
            resident: None,
            folder,
        };
        let mut boot = wine.start("wineboot", ["--init"]).into_command();
        let booted = boot.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        anyhow::ensure!(booted.success(), "wine does not start");
        let library = wine.drive().join("windows/system32/bcryptprimitives.dll");
        if !library.exists() {
            let mut gcc = Command::new("x86_64-w64-mingw32-gcc");
            gcc.args(["-shared", RANDOM, "-ladvapi32", "-o"])
                .arg(&library);
            anyhow::ensure!(gcc.status()?.success(), "no bcryptprimitives.dll");
        }
        let mut resident = wine.start("cmd", [""; 0]).into_command();
        resident.stdin(Stdio::piped()).stdout(Stdio::null());
        wine.resident = Some(resident.stderr(Stdio::null()).spawn()?);
        Ok(wine)
    }

    /// Starts the machine. What holds it would otherwise be started by a command whose
    /// errors are read to their end: Windows' handles are not inherited by it, but
    /// wine's own standard error is.
    pub fn start_machine(&self) -> Result<()> {
        let mut start = self.isolazi(["vm", "start"]).into_command();
        let started = start.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        anyhow::ensure!(started.success(), "the machine does not start: {started}");
        Ok(())
    }

    /// Drive C.
    pub fn drive(&self) -> PathBuf {
        self.folder.path().join("prefix/drive_c")
    }

    /// A program of Windows, with its arguments.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Invocation {
        Invocation::new(&self.wine, PATIENCE)
            .env("WINEPREFIX", self.folder.path().join("prefix"))
            .env("WINEDEBUG", "-all")
            // No programs for .NET and HTML, which would be asked for.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env("WINEPATH", windows(&self.folder.path().join("tools")))
            .env("ISOLAZI_STAND_IN_WSL_RELAY", &self.relay.address)
            .env("ISOLAZI_HOME", r"C:\users\Jörg Müller\isolazi data")
            .env("ISOLAZI_APPLIANCE", windows(&self.appliance))
            .env_remove("ISOLAZI_VM")
            .args([program])
            .args(args)
    }

    /// `isolazi.exe ARGS`.
    pub fn isolazi<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Invocation {
        self.start(&self.isolazi, args)
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        drop(self.isolazi(["vm", "stop"]).output());
        if let Some(mut resident) = self.resident.take() {
            drop(resident.kill());
            drop(resident.wait());
        }
        let server = Command::new("/usr/lib/wine/wineserver64")
            .arg("-k")
            .env("WINEPREFIX", self.folder.path().join("prefix"))
            .status();
        drop(server);
    }
}

/// A path of Linux as Windows has it.
fn windows(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', r"\")
}

/// What the drives of Windows are here: C, and Z for everything.
#[derive(Debug, Clone)]
struct Drives(PathBuf);

impl Drives {
    /// What the stand-in is told of them.
    fn told(&self) -> String {
        format!("c={};z=/", self.0.display())
    }

    /// A word that is a path of Windows, as a path of Linux; others as they are.
    fn translate(&self, word: &str) -> String {
        let slashed = word.replace('\\', "/");
        match word.get(..3) {
            Some(r"Z:\") => slashed[2..].to_owned(),
            Some(r"C:\") => format!("{}{}", self.0.display(), &slashed[2..]),
            _ => word.to_owned(),
        }
    }
}

/// The Linux side of `wsl.exe`.
#[derive(Debug)]
struct Relay {
    address: String,
}

impl Relay {
    fn start(stand_in: PathBuf, home: PathBuf, drives: Drives) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let start = Arc::new(move |words: Vec<String>| {
            let words = words.iter().map(|word| drives.translate(word));
            let mut command = Command::new(&stand_in);
            command
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            command.stderr(Stdio::null());
            command.env("ISOLAZI_STAND_IN_WSL", &home);
            command.env("ISOLAZI_STAND_IN_WSL_DRIVES", drives.told());
            command
        });
        // It ends with the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let start = Arc::clone(&start);
                // Whoever is on the other side sees the end of the connection.
                thread::spawn(move || drop(serve(stream, |words| start(words))));
            }
        });
        Ok(Self { address })
    }
}

fn serve(mut there: TcpStream, start: impl Fn(Vec<String>) -> Command) -> Result<()> {
    there.set_nodelay(true)?;
    let count = number(&mut there)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(&mut there)?];
        there.read_exact(&mut word)?;
        words.push(String::from_utf8(word)?);
    }
    let mut child = start(words).spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let mut stdin = input.context("no standard input")?;
    let mut from_there = there.try_clone()?;
    thread::spawn(move || drop(pass(&mut from_there, |piece| stdin.write_all(piece))));
    let mut output = output.context("no standard output")?;
    pass(&mut output, |piece| {
        there.write_all(&(piece.len() as u32).to_le_bytes())?;
        there.write_all(piece)
    })?;
    let status = child.wait()?.code().unwrap_or(255) as u8;
    there.write_all(&[0, 0, 0, 0, status])?;
    Ok(there.shutdown(Shutdown::Write)?)
}

/// Gives away all there is to read, in pieces. `io::copy` would splice from a socket to a
/// pipe, and so lock the pipe for its reader while there is nothing to be had.
fn pass(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to(&buffer[..count])?,
        }
    }
}

fn number(stream: &mut TcpStream) -> Result<usize> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}
