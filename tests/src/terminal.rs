//! A pseudo-terminal with isolazi in front of it, as a person would sit there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::command::eventually;

/// A program on a terminal of its own.
#[derive(Debug)]
pub struct Session {
    master: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    before: Termios,
    timeout: Duration,
}

impl Session {
    /// Starts `command` on a terminal of `rows` lines of `columns` characters.
    pub fn start(command: &Command, rows: u16, columns: u16, timeout: Duration) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, size(rows, columns))?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        let before = tcgetattr(&slave)?;
        let child = on_terminal(command, &slave)?
            .spawn()
            .context("cannot start setsid")?;
        drop(slave);
        let master = File::from(master);
        let shown = Arc::default();
        collect(master.try_clone()?, Arc::clone(&shown));
        Ok(Self {
            master,
            child,
            shown,
            before,
            timeout,
        })
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no such process")?, signal)?)
    }

    /// Types `text`.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Types `bytes` as fast as they are taken, without waiting for that.
    pub fn paste(&self, bytes: Vec<u8>) -> Result<()> {
        let mut master = self.master.try_clone()?;
        // What is not taken fails with the terminal, and the case notices.
        thread::spawn(move || drop(master.write_all(&bytes)));
        Ok(())
    }

    /// Whether keys are passed on as they are typed.
    pub fn is_raw(&self) -> Result<bool> {
        // Asked of the master, the kernel tells of the terminal (pty(7)).
        let modes = tcgetattr(&self.master)?.local_modes;
        Ok(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Whether the terminal is in the mode that the program found it in.
    pub fn is_as_before(&self) -> Result<bool> {
        let now = tcgetattr(&self.master)?;
        let modes = |it: &Termios| {
            (
                it.input_modes,
                it.output_modes,
                it.control_modes,
                it.local_modes,
            )
        };
        Ok(modes(&now) == modes(&self.before))
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tcsetwinsize(&self.master, size(rows, columns))?)
    }

    /// All that the terminal has shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The same, byte for byte.
    pub fn bytes(&self) -> Vec<u8> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    /// Waits until it shows `text`.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        eventually(self.timeout, &format!("{text:?} on the terminal"), || {
            Ok(self.shown().contains(text).then_some(()))
        })
        .with_context(|| format!("the terminal shows {:?}", self.shown()))
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = eventually(self.timeout, "the program on the terminal ends", || {
            Ok(child.try_wait()?)
        });
        ended.with_context(|| format!("the terminal shows {:?}", self.shown()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// `setsid` makes the terminal the controlling one, which is what turns a typed
/// Ctrl-C into a signal.
fn on_terminal(command: &Command, slave: &OwnedFd) -> Result<Command> {
    let mut setsid = Command::new("setsid");
    setsid
        .args(["--ctty", "--wait"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave.try_clone()?));
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => setsid.env(key, value),
            None => setsid.env_remove(key),
        };
    }
    Ok(setsid)
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Reading fails with EIO once nobody has the terminal open any more.
fn collect(mut master: File, shown: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = master.read(&mut buffer) {
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.extend_from_slice(&buffer[..read]);
        }
    });
}
