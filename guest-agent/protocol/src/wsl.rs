//! How the agent is called in a distribution of the Windows Subsystem for Linux,
//! where each conversation is a process of its own: `wsl.exe` connects its
//! standard streams to the host's.
//!
//! ```text
//! /isolazi-agent wsl-serve            a conversation on standard input and output
//! /isolazi-agent wsl-hold IDLE        stays, for the distribution ends with the last process
//! /isolazi-agent wsl-install          a new agent comes on standard input
//! ```

/// Where the agent is in the distribution.
pub const AGENT: &str = "/isolazi-agent";

/// Serves one conversation.
pub const SERVE_ROLE: &str = "wsl-serve";

/// Keeps the distribution alive. The argument is the number of seconds after
/// which it gives up when nothing is going on, or `never`.
pub const HOLD_ROLE: &str = "wsl-hold";

/// Puts what comes on standard input in the place of the agent.
pub const INSTALL_ROLE: &str = "wsl-install";

/// What the argument of [`HOLD_ROLE`] is for good.
pub const NEVER: &str = "never";

/// The only line that [`HOLD_ROLE`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It stays; the distribution has just started.
    Booted,
    /// It stays; another before it was lost.
    Again,
    /// Another stays, so this one goes.
    ByAnother,
}

impl Held {
    const ALL: [Self; 3] = [Self::Booted, Self::Again, Self::ByAnother];

    /// The line, without its end.
    pub fn line(self) -> &'static str {
        match self {
            Self::Booted => "booted",
            Self::Again => "holding",
            Self::ByAnother => "held",
        }
    }

    /// What the line says, if anything.
    pub fn from_line(line: &str) -> Option<Self> {
        let line = line.trim_end();
        Self::ALL.into_iter().find(|held| held.line() == line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_understood() {
        for held in Held::ALL {
            assert_eq!(Held::from_line(&format!("{}\r\n", held.line())), Some(held));
        }
        assert_eq!(Held::from_line("There is no distribution"), None);
    }
}
