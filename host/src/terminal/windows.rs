//! The Windows console, made to behave as a terminal of Unix does.
//!
//! Container programs speak in escape sequences, so for the time of a session
//! the console sends and understands them ("Console Virtual Terminal Sequences"
//! in Microsoft's documentation).

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, DISABLE_NEWLINE_AUTO_RETURN, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT,
    ENABLE_PROCESSED_INPUT, ENABLE_PROCESSED_OUTPUT, ENABLE_VIRTUAL_TERMINAL_INPUT,
    ENABLE_VIRTUAL_TERMINAL_PROCESSING,
};

use super::{Signalled, WindowSize};
use crate::sys::{ConsoleInput, Stream, console_mode, set_console_mode, window_size};

/// A console tells of a new size only among what is typed; looked at so often
/// instead.
const SIZE_INTERVAL: Duration = Duration::from_millis(250);

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Size of the console.
pub fn size() -> Option<WindowSize> {
    let (rows, columns) = window_size(Stream::Output)?;
    Some(WindowSize { rows, columns })
}

/// What is typed, or comes by a pipe.
pub fn keyboard() -> Box<dyn io::Read> {
    match io::stdin().is_terminal() {
        true => Box::new(ConsoleInput::default()),
        false => Box::new(io::stdin()),
    }
}

/// The modes that the console had before they were changed.
static BEFORE: Mutex<Vec<(Stream, CONSOLE_MODE)>> = Mutex::new(Vec::new());

/// Makes the console what it was, where it was changed.
pub fn restore() {
    let before = BEFORE.try_lock().map(|mut it| std::mem::take(&mut *it));
    for (stream, mode) in before.unwrap_or_default() {
        // A console that is gone needs no restoring.
        let _ = set_console_mode(stream, mode);
    }
}

/// A console whose modes are put back when this value has gone.
#[derive(Debug)]
struct Changed;

impl Changed {
    fn to(stream: Stream, change: impl FnOnce(CONSOLE_MODE) -> CONSOLE_MODE) -> io::Result<Self> {
        let before = console_mode(stream)?;
        let mut known = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((stream, before));
        set_console_mode(stream, change(before))?;
        Ok(Self)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        restore();
    }
}

/// Raw mode for as long as this value lives.
#[derive(Debug)]
pub struct RawMode {
    _input: Changed,
    /// Nothing where the output goes elsewhere.
    _output: Option<Changed>,
}

impl RawMode {
    /// Passes keys on as they are typed; `None` where standard input is no console.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let cooked = ENABLE_ECHO_INPUT | ENABLE_LINE_INPUT | ENABLE_PROCESSED_INPUT;
        let input = Changed::to(Stream::Input, |mode| {
            mode & !cooked | ENABLE_VIRTUAL_TERMINAL_INPUT
        })?;
        let sequences = ENABLE_PROCESSED_OUTPUT
            | ENABLE_VIRTUAL_TERMINAL_PROCESSING
            | DISABLE_NEWLINE_AUTO_RETURN;
        Ok(Some(Self {
            _input: input,
            _output: Changed::to(Stream::Output, |mode| mode | sequences).ok(),
        }))
    }
}

/// For as long as this value lives, what is typed does not show.
#[derive(Debug)]
pub struct NoEcho(Changed);

impl NoEcho {
    /// Turns the echo off; `None` where standard input is no console.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let changed = Changed::to(Stream::Input, |mode| mode & !ENABLE_ECHO_INPUT)?;
        Ok(Some(Self(changed)))
    }
}

/// The console's events that an attached command passes on as signals.
#[derive(Debug)]
pub struct Signals {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    hangup: CtrlClose,
    shutdown: CtrlShutdown,
    size: Option<WindowSize>,
    looks: tokio::time::Interval,
}

impl Signals {
    /// Takes the events over from their default actions.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            terminate: ctrl_break()?,
            hangup: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
            size: size(),
            looks: tokio::time::interval(SIZE_INTERVAL),
        })
    }

    /// The next of them, as the signal that it would be on Linux.
    pub async fn next(&mut self) -> Signalled {
        loop {
            let number = tokio::select! {
                _ = self.interrupt.recv() => SIGINT,
                _ = self.terminate.recv() => SIGTERM,
                _ = self.hangup.recv() => SIGHUP,
                _ = self.shutdown.recv() => SIGTERM,
                _ = self.looks.tick() => {
                    let now = size();
                    if now == self.size {
                        continue;
                    }
                    self.size = now;
                    return Signalled::Resized;
                }
            };
            return Signalled::Forward(number);
        }
    }
}
