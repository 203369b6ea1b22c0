//! What the host tells one boot of the guest.
//!
//! The host appends a small cpio archive with this one file to the initramfs,
//! which works the same on every hypervisor and leaves nothing on a kernel
//! command line that a container could read in `/proc/cmdline`.

use std::fs;
use std::io::Read;

use isolazi_protocol::Token;
use serde::{Deserialize, Serialize};

use super::error::GuestError;

/// Where the initramfs holds it until PID 1 has read it.
const PATH: &str = "/isolazi-boot.json";
/// Far more than the file ever is.
const MAX_BYTES: u64 = 64 << 10;

/// Settings of this boot. Unknown fields are ignored, so that a host may say
/// more than this agent understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BootConfig {
    /// What every conversation must show.
    pub(super) token: Token,
    /// UTS host name of the guest.
    #[serde(default = "default_hostname")]
    pub(super) hostname: String,
    /// How the guest gets its address.
    #[serde(default)]
    pub(super) network: Network,
    /// The tag of a shared folder with Rosetta in it.
    #[serde(default)]
    pub(super) rosetta: Option<String>,
}

/// What network the hypervisor gives the guest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Network {
    /// QEMU's user network, whose addresses are known.
    #[default]
    User,
    /// One with a server that lends addresses.
    Dhcp,
}

fn default_hostname() -> String {
    "isolazi".to_owned()
}

impl BootConfig {
    /// Reads the file and removes it, so that only PID 1 ever sees the token.
    pub(super) fn take() -> Result<Self, GuestError> {
        let text = fs::read(PATH).map_err(GuestError::setup("read", PATH))?;
        fs::remove_file(PATH).map_err(GuestError::setup("remove", PATH))?;
        Self::parse(&text)
    }

    /// What PID 1 wrote to the server's standard input.
    pub(super) fn from_reader(reader: impl Read) -> Result<Self, GuestError> {
        let mut text = Vec::new();
        reader
            .take(MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(GuestError::setup("read", "the boot configuration"))?;
        Self::parse(&text)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, GuestError> {
        serde_json::to_vec(self).map_err(GuestError::Config)
    }

    fn parse(text: &[u8]) -> Result<Self, GuestError> {
        serde_json::from_slice(text).map_err(GuestError::Config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_host_writes() {
        let numbers = vec!["7"; 32].join(",");
        let text = format!(r#"{{"token":[{numbers}],"hostname":"box","later":1}}"#);
        let config = BootConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.token, Token([7; 32]));
        assert_eq!(config.hostname, "box");
    }

    #[test]
    fn survives_the_way_to_the_server() {
        let config = BootConfig {
            token: Token([9; 32]),
            hostname: default_hostname(),
            network: Network::Dhcp,
            rosetta: Some("rosetta".to_owned()),
        };
        let wire = config.to_json().unwrap();
        assert_eq!(BootConfig::from_reader(wire.as_slice()).unwrap(), config);
    }

    #[test]
    fn a_short_token_is_refused() {
        assert!(BootConfig::parse(br#"{"token":[1,2,3]}"#).is_err());
    }
}
