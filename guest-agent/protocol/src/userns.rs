//! User namespaces of containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which users a container has (user_namespaces(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// Those of the engine: where that is root's, root in the container is root.
    #[default]
    Host,
    /// Some in which root is not the machine's: the engine's own where that is an
    /// ordinary user's, else as with `Auto`.
    Rootless,
    /// As many as an image may need, which no other container has.
    Auto,
    /// These.
    Mapped {
        /// User ids.
        users: Vec<IdMapping>,
        /// Group ids.
        groups: Vec<IdMapping>,
    },
}

/// Consecutive ids of a container, and those of the host that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first one in the container.
    pub container: u32,
    /// The first one on the host.
    pub host: u32,
    /// So many.
    pub size: u32,
}

/// Not `CONTAINER:HOST:SIZE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' maps no ids: use CONTAINER:HOST:SIZE, such as 0:100000:65536, with a size above 0 and no id above 4294967294"
)]
pub struct IdMappingError(String);

impl FromStr for IdMapping {
    type Err = IdMappingError;

    fn from_str(text: &str) -> Result<Self, IdMappingError> {
        let error = || IdMappingError(text.chars().take(80).collect());
        let numbers: Option<Vec<u32>> = text.split(':').map(|it| it.parse().ok()).collect();
        let Some(&[container, host, size]) = numbers.as_deref() else {
            return Err(error());
        };
        let fits = |first: u32| first.checked_add(size).is_some();
        match size > 0 && fits(container) && fits(host) {
            true => Ok(Self {
                container,
                host,
                size,
            }),
            false => Err(error()),
        }
    }
}

impl fmt::Display for IdMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_three_numbers() {
        let mapping: IdMapping = "0:100000:65536".parse().unwrap();
        assert_eq!(mapping.to_string(), "0:100000:65536");
        for bad in [
            "",
            "0",
            "0:1",
            "0:1:0",
            "a:1:1",
            "0:1:1:1",
            "-1:0:1",
            "0:4294967295:1",
            "4294967295:0:1",
            "0:1: 1",
        ] {
            assert!(bad.parse::<IdMapping>().is_err(), "{bad}");
        }
    }
}
