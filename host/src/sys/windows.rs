//! The host's raw system calls on Windows: the console's.

use std::io;

use windows_sys::Win32::Foundation::{HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, CONSOLE_SCREEN_BUFFER_INFO, GetConsoleMode, GetConsoleScreenBufferInfo,
    GetStdHandle, ReadConsoleW, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
    SetConsoleMode,
};

/// A standard stream of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
}

impl Stream {
    fn handle(self) -> HANDLE {
        let which = match self {
            Self::Input => STD_INPUT_HANDLE,
            Self::Output => STD_OUTPUT_HANDLE,
        };
        // SAFETY: takes a number; a handle of no use fails where it is used.
        unsafe { GetStdHandle(which) }
    }
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Keeps this process's standard streams from those that it starts: Windows' processes
/// inherit whatever may be inherited, and one that outlives this process would hold the
/// pipe open that somebody reads our output from. Children that are to have a stream get
/// a copy of it.
pub(crate) fn keep_streams() {
    for which in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        // SAFETY: takes numbers; a handle of no use fails, and is nothing to inherit.
        unsafe { SetHandleInformation(GetStdHandle(which), HANDLE_FLAG_INHERIT, 0) };
    }
}

/// How the console treats a stream (GetConsoleMode); an error where it is none.
pub(crate) fn console_mode(stream: Stream) -> io::Result<CONSOLE_MODE> {
    let mut mode = 0;
    // SAFETY: `mode` is a live variable of the type that is written.
    checked(unsafe { GetConsoleMode(stream.handle(), &raw mut mode) })?;
    Ok(mode)
}

/// Has the console treat a stream so (SetConsoleMode).
pub(crate) fn set_console_mode(stream: Stream, mode: CONSOLE_MODE) -> io::Result<()> {
    // SAFETY: takes a handle, which may be of no use, and a number.
    checked(unsafe { SetConsoleMode(stream.handle(), mode) })
}

/// Rows and columns of the console's window; `None` where the stream is no console's.
pub(crate) fn window_size(stream: Stream) -> Option<(u16, u16)> {
    let mut info = CONSOLE_SCREEN_BUFFER_INFO::default();
    // SAFETY: `info` is a live variable of the type that is written.
    checked(unsafe { GetConsoleScreenBufferInfo(stream.handle(), &raw mut info) }).ok()?;
    let window = info.srWindow;
    let rows = u16::try_from(window.Bottom.checked_sub(window.Top)? + 1).ok()?;
    let columns = u16::try_from(window.Right.checked_sub(window.Left)? + 1).ok()?;
    (rows > 0 && columns > 0).then_some((rows, columns))
}

/// So many units of UTF-16 are read at once; each is at most three bytes of UTF-8.
const UNITS: usize = 1024;

/// What is typed into the console, as UTF-8. Unlike the standard library's input
/// it does not take Ctrl-Z for the end.
#[derive(Debug, Default)]
pub(crate) struct ConsoleInput {
    /// The first half of a character, whose second is still to come.
    half: Option<u16>,
    /// Read, and not yet given out.
    text: Vec<u8>,
}

impl io::Read for ConsoleInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.text.is_empty() {
            let mut units = [0_u16; UNITS];
            let mut count = 0;
            // SAFETY: at most `UNITS` units are written to `units`, which has as
            // many, and their number to `count`; both are live.
            checked(unsafe {
                ReadConsoleW(
                    Stream::Input.handle(),
                    units.as_mut_ptr().cast(),
                    UNITS as u32,
                    &raw mut count,
                    std::ptr::null(),
                )
            })?;
            if count == 0 {
                return Ok(0);
            }
            self.take(&units[..(count as usize).min(UNITS)]);
        }
        let count = buffer.len().min(self.text.len());
        buffer[..count].copy_from_slice(&self.text[..count]);
        self.text.drain(..count);
        Ok(count)
    }
}

impl ConsoleInput {
    fn take(&mut self, units: &[u16]) {
        let mut all: Vec<u16> = self
            .half
            .take()
            .into_iter()
            .chain(units.iter().copied())
            .collect();
        self.half = all.pop_if(|unit| (0xd800..0xdc00).contains(unit));
        self.text
            .extend(String::from_utf16_lossy(&all).into_bytes());
    }
}
