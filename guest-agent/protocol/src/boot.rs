//! What the host tells one boot of the guest.
//!
//! A file in the guest's initramfs, which works the same on every hypervisor and leaves
//! nothing on a kernel command line that a container could read in `/proc/cmdline`. A
//! line is a setting; whoever reads passes over those that it does not know, so that a
//! host may say more than a guest understands:
//!
//! ```text
//! token 3031…           64 hexadecimal digits
//! hostname isolazi
//! network dhcp          or `user`, which is what is meant where the line is missing
//! rosetta TAG
//! ```
//!
//! These lines are the first that a guest reads, and are read twice. To a processor that
//! is emulated a parser of JSON would be new code, at a cost of some milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a guest is called, unless it is told otherwise.
pub const GUEST_HOSTNAME: &str = "isolazi";

/// The file's name at the initramfs' root.
pub const BOOT_FILE: &str = "isolazi-boot";

/// A secret that the host gives to the guest at boot and shows in every
/// [`Hello`](crate::Hello), so that nothing else that can reach the agent's socket is served.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// As 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The token of 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut token = [0; 32];
        for (byte, pair) in token.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            // Two digits of four bits each.
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(token))
    }
}

/// Settings of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootConfig {
    /// What every conversation must show.
    pub token: Token,
    /// UTS host name of the guest; without white space.
    pub hostname: String,
    /// How the guest gets its address.
    pub network: GuestNetwork,
    /// The tag of a shared folder with Rosetta in it; without white space.
    pub rosetta: Option<String>,
}

/// What network the hypervisor gives the guest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum GuestNetwork {
    /// QEMU's user network, whose addresses are known.
    #[default]
    User,
    /// One with a server that lends addresses.
    Dhcp,
}

impl GuestNetwork {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Dhcp => "dhcp",
        }
    }
}

/// Why a text says nothing that a guest could boot with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BootConfigError {
    /// No line is about the token.
    #[error("it names no token")]
    NoToken,
    /// The token is not 64 hexadecimal digits.
    #[error("its token is not 64 hexadecimal digits")]
    BadToken,
    /// The network is neither of those above.
    #[error("its network is neither 'user' nor 'dhcp'")]
    BadNetwork,
}

impl fmt::Display for BootConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "token {}", self.token.to_hex())?;
        writeln!(f, "hostname {}", self.hostname)?;
        writeln!(f, "network {}", self.network.name())?;
        match &self.rosetta {
            Some(tag) => writeln!(f, "rosetta {tag}"),
            None => Ok(()),
        }
    }
}

impl FromStr for BootConfig {
    type Err = BootConfigError;

    fn from_str(text: &str) -> Result<Self, BootConfigError> {
        let (mut token, mut hostname) = (None, GUEST_HOSTNAME.to_owned());
        let (mut network, mut rosetta) = (GuestNetwork::default(), None);
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match name {
                "token" => {
                    token = Some(Token::from_hex(value).ok_or(BootConfigError::BadToken)?);
                }
                "hostname" => value.clone_into(&mut hostname),
                "network" => {
                    let known = [GuestNetwork::User, GuestNetwork::Dhcp];
                    network = known
                        .into_iter()
                        .find(|it| it.name() == value)
                        .ok_or(BootConfigError::BadNetwork)?;
                }
                "rosetta" => rosetta = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(Self {
            token: token.ok_or(BootConfigError::NoToken)?,
            hostname,
            network,
            rosetta,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (network, rosetta) in [
            (GuestNetwork::User, None),
            (GuestNetwork::Dhcp, Some("rosetta".to_owned())),
        ] {
            let config = BootConfig {
                token: Token([9; 32]),
                hostname: "box".to_owned(),
                network,
                rosetta,
            };
            assert_eq!(config.to_string().parse(), Ok(config));
        }
    }

    #[test]
    fn a_guest_passes_over_what_it_does_not_know() {
        let text = format!("later 1\ntoken {}\n\nword\n", "0a".repeat(32));
        let config: BootConfig = text.parse().unwrap();
        assert_eq!(config.token, Token([10; 32]));
        assert_eq!(config.hostname, GUEST_HOSTNAME);
    }

    #[test]
    fn a_token_is_all_of_its_digits() {
        assert_eq!(Token::from_hex(&"0a".repeat(32)), Some(Token([10; 32])));
        assert_eq!(Token([10; 32]).to_hex(), "0a".repeat(32));
        for bad in [
            "",
            "0a",
            &"0a".repeat(33),
            &"xy".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(Token::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_booted_with_is_an_error() {
        let token = "0a".repeat(32);
        for (text, error) in [
            (String::new(), BootConfigError::NoToken),
            ("token 0a0b\n".to_owned(), BootConfigError::BadToken),
            (
                format!("token {token}\nnetwork tin cans\n"),
                BootConfigError::BadNetwork,
            ),
        ] {
            assert_eq!(text.parse::<BootConfig>(), Err(error), "{text}");
        }
    }
}
