//! Options for which users a container has.

use clap::{Args, ValueEnum};

/// What `--userns` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UsernsMode {
    /// The engine's users: root in the container is who runs it
    Host,
    /// Users that nobody else is, and no other container has
    Auto,
}

/// The container's users.
#[derive(Debug, Clone, Default, Args)]
pub struct UsernsArgs {
    /// Run the container without root privileges, in a user namespace; always so for users other than root
    #[arg(long)]
    pub rootless: bool,
    /// Map users of the container to users of the host, such as 0:100000:65536 (can be repeated)
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    pub uid_map: Vec<String>,
    /// Map groups of the container to groups of the host [default: as the users] (can be repeated)
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    pub gid_map: Vec<String>,
    /// Whose the container's users are
    #[arg(long, value_enum, value_name = "MODE")]
    pub userns: Option<UsernsMode>,
}
