//! Why the guest cannot come up.

use std::io;

use isolazi_protocol::BootConfigError;

use super::DATA_ROOT;

/// Everything here ends the boot; the host shows the line from the console.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// A step of setting up the root, mounts or sysctls failed.
    #[error("cannot {action} {subject}")]
    Setup {
        action: &'static str,
        subject: String,
        #[source]
        source: io::Error,
    },
    /// The boot config in the initramfs is not what this agent expects.
    #[error("the boot configuration is malformed")]
    Config(#[source] BootConfigError),
    /// The machine was started without its disk.
    #[error("no data disk: {0} did not appear")]
    NoDisk(&'static str),
    /// What is on the disk is not the file system the appliance comes with.
    #[error("the data disk {0} holds no ext4 file system")]
    NotExt4(&'static str),
    /// The engine does not start on what is on the disk.
    #[error(transparent)]
    Engine(isolazi_protocol::WireError),
    /// Mounting failed; the file system may be damaged.
    #[error("cannot mount the data disk {device} at {DATA_ROOT}")]
    Mount {
        device: &'static str,
        #[source]
        source: io::Error,
    },
}

impl GuestError {
    /// For `map_err`: which step failed, on what.
    pub(crate) fn setup<E: Into<io::Error>>(
        action: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let subject = subject.into();
        move |source| Self::Setup {
            action,
            subject,
            source: source.into(),
        }
    }
}
