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
pub use unix::{NoEcho, RawMode, Signals, keyboard, restore, size};
#[cfg(windows)]
pub use windows::{NoEcho, RawMode, Signals, keyboard, restore, size};

#[cfg(windows)]
mod windows;

#[cfg(unix)]
mod unix {
    use std::io::{self, IsTerminal};
    use std::sync::{Mutex, PoisonError};

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

    /// How the terminal was before it was changed.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    /// Makes the terminal what it was, if it was changed.
    pub fn restore() {
        let before = BEFORE.try_lock().ok().and_then(|mut it| it.take());
        if let Some(before) = before {
            // A terminal that is gone needs no restoring.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
        }
    }

    /// A terminal that is as it was when this value has gone.
    #[derive(Debug)]
    struct Changed;

    impl Changed {
        /// `None` where standard input is no terminal.
        fn by(when: SetArg, change: impl FnOnce(&mut Termios)) -> io::Result<Option<Self>> {
            let stdin = io::stdin();
            if !stdin.is_terminal() {
                return Ok(None);
            }
            let before = tcgetattr(&stdin)?;
            let mut changed = before.clone();
            change(&mut changed);
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
            tcsetattr(&stdin, when, &changed)?;
            Ok(Some(Self))
        }
    }

    impl Drop for Changed {
        fn drop(&mut self) {
            restore();
        }
    }

    /// Raw mode for as long as this value lives.
    #[derive(Debug)]
    pub struct RawMode(Changed);

    impl RawMode {
        /// Passes keys on as they are typed; `None` where standard input is no terminal.
        pub fn enter() -> io::Result<Option<Self>> {
            Ok(Changed::by(SetArg::TCSANOW, cfmakeraw)?.map(Self))
        }
    }

    /// For as long as this value lives, what is typed does not show.
    #[derive(Debug)]
    pub struct NoEcho(Changed);

    impl NoEcho {
        /// Turns the echo off; `None` where standard input is no terminal.
        pub fn enter() -> io::Result<Option<Self>> {
            let quiet = |it: &mut Termios| it.local_flags.remove(LocalFlags::ECHO);
            Ok(Changed::by(SetArg::TCSAFLUSH, quiet)?.map(Self))
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
