//! The user's terminal: its size, raw mode, and the signals that reach us.

use std::io::IsTerminal;

use isolazi_protocol::WindowSize;

/// Whether both ends of the conversation with the user are a terminal.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// What reaches an attached command besides input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// A signal to be passed on, by its number on Linux.
    Forward(i32),
    /// The terminal has another size.
    Resized,
}

#[cfg(unix)]
pub use unix::{NoEcho, RawMode, Signals, keyboard, size};
#[cfg(windows)]
pub use windows::{NoEcho, RawMode, Signals, keyboard, size};

#[cfg(windows)]
mod windows;

#[cfg(unix)]
mod unix {
    use std::io::{self, IsTerminal};

    use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{Signalled, WindowSize};

    /// What is typed, or comes by a pipe.
    pub fn keyboard() -> impl io::Read {
        io::stdin()
    }

    /// Size of the terminal on standard output, or on standard input.
    pub fn size() -> Option<WindowSize> {
        let of_output = crate::sys::window_size(&io::stdout());
        let (rows, columns) = of_output.or_else(|| crate::sys::window_size(&io::stdin()))?;
        Some(WindowSize { rows, columns })
    }

    /// Raw mode for as long as this value lives.
    #[derive(Debug)]
    pub struct RawMode {
        before: Termios,
    }

    impl RawMode {
        /// Passes keys on as they are typed; `None` where standard input is no terminal.
        pub fn enter() -> io::Result<Option<Self>> {
            let stdin = io::stdin();
            if !stdin.is_terminal() {
                return Ok(None);
            }
            let before = tcgetattr(&stdin)?;
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
            Ok(Some(Self { before }))
        }
    }

    impl Drop for RawMode {
        fn drop(&mut self) {
            // A terminal that is gone needs no restoring.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
        }
    }

    /// For as long as this value lives, what is typed does not show.
    #[derive(Debug)]
    pub struct NoEcho {
        before: Termios,
    }

    impl NoEcho {
        /// Turns the echo off; `None` where standard input is no terminal.
        pub fn enter() -> io::Result<Option<Self>> {
            let stdin = io::stdin();
            if !stdin.is_terminal() {
                return Ok(None);
            }
            let before = tcgetattr(&stdin)?;
            let mut quiet = before.clone();
            quiet.local_flags.remove(LocalFlags::ECHO);
            tcsetattr(&stdin, SetArg::TCSAFLUSH, &quiet)?;
            Ok(Some(Self { before }))
        }
    }

    impl Drop for NoEcho {
        fn drop(&mut self) {
            // A terminal that is gone needs no restoring.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
        }
    }

    /// The signals that an attached command passes on.
    #[derive(Debug)]
    pub struct Signals {
        hangup: Signal,
        interrupt: Signal,
        quit: Signal,
        terminate: Signal,
        user1: Signal,
        user2: Signal,
        resized: Signal,
    }

    impl Signals {
        /// Takes the signals over from their default actions.
        pub fn new() -> io::Result<Self> {
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                terminate: signal(SignalKind::terminate())?,
                user1: signal(SignalKind::user_defined1())?,
                user2: signal(SignalKind::user_defined2())?,
                resized: signal(SignalKind::window_change())?,
            })
        }

        /// The next signal. The numbers are Linux's, wherever this runs.
        pub async fn next(&mut self) -> Signalled {
            let number = tokio::select! {
                _ = self.hangup.recv() => 1,
                _ = self.interrupt.recv() => 2,
                _ = self.quit.recv() => 3,
                _ = self.user1.recv() => 10,
                _ = self.user2.recv() => 12,
                _ = self.terminate.recv() => 15,
                _ = self.resized.recv() => return Signalled::Resized,
            };
            Signalled::Forward(number)
        }
    }
}
