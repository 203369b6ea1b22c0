//! What the host tells this boot: [`BootConfig`].

use std::fs;
use std::io::{self, Read};

use isolazi_protocol::{BOOT_FILE, BootConfig};

use super::error::GuestError;

/// Far more than the text ever is.
const MAX_BYTES: u64 = 64 << 10;

/// Reads the file and removes it, so that only PID 1 ever sees the token.
pub(super) fn take() -> Result<BootConfig, GuestError> {
    let path = format!("/{BOOT_FILE}");
    let text = fs::read_to_string(&path).map_err(GuestError::setup("read", path.clone()))?;
    fs::remove_file(&path).map_err(GuestError::setup("remove", path))?;
    text.parse().map_err(GuestError::Config)
}

/// Reads what PID 1 wrote to the server's standard input.
pub(super) fn receive() -> Result<BootConfig, GuestError> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(GuestError::setup("read", "the boot configuration"))?;
    text.parse().map_err(GuestError::Config)
}
