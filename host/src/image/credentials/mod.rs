//! Who the user is at which registry: Docker's `config.json`, so that a login
//! made by either program is the other's as well.
//!
//! ```text
//!  credHelpers[registry] ─┐
//!  credsStore ────────────┴─► docker-credential-NAME ─► found? ─► it
//!  auths[registry].auth ◄──── not there, or no helper ──┘
//! ```
//!
//! A credential is looked up by the registry that asks for it and by nothing
//! else, and only when it does ask.

mod file;
mod helper;

use std::fmt;
use std::path::{Path, PathBuf};

use super::reference::{DEFAULT_REGISTRY, Reference};
use file::ConfigFile;

/// What Docker calls its hub here.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A user's name and secret at some registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Their name.
    pub username: String,
    /// Password or token.
    pub secret: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Why credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Docker's file.
    #[error("cannot use '{}': {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A program that keeps secrets.
    #[error("credential helper {program}: {reason}")]
    Helper {
        /// Its name.
        program: String,
        /// What it said, or why it cannot be run.
        reason: String,
    },
    /// A kind of login that only Docker can use.
    #[error(
        "the login for '{0}' is an identity token, which isolazi cannot use; log in with a password or access token"
    )]
    IdentityToken(String),
    /// Not a registry.
    #[error("'{0}' is not a registry: expected HOST or HOST:PORT")]
    Registry(String),
}

/// Where a credential was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file, readable to whoever can read that.
    File(PathBuf),
    /// With this program.
    Helper(String),
}

/// The credentials of a user.
#[derive(Debug, Clone)]
pub struct Credentials {
    path: PathBuf,
}

impl Credentials {
    /// Those of `DOCKER_CONFIG` or `~/.docker`; `None` without a home.
    pub fn of_user() -> Option<Self> {
        let named = std::env::var_os("DOCKER_CONFIG").filter(|it| !it.is_empty());
        let folder = named
            .map(PathBuf::from)
            .or_else(|| Some(dirs::home_dir()?.join(".docker")))?;
        Some(Self::at(&folder))
    }

    /// Those of the `config.json` in `folder`.
    pub fn at(folder: &Path) -> Self {
        Self {
            path: folder.join("config.json"),
        }
    }

    /// The credential for a registry, where there is one.
    pub async fn get(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let file = ConfigFile::read(&self.path)?;
        if let Some(helper) = file.helper(registry) {
            let found = helper::get(&helper, &key(registry)).await?;
            if let Some(credential) = found {
                return Ok(Some(credential));
            }
        }
        file.credential(registry)
    }

    /// Keeps a credential, with the helper that is set up for it or in the file.
    pub async fn store(
        &self,
        registry: &str,
        credential: &Credential,
    ) -> Result<Kept, CredentialError> {
        let mut file = ConfigFile::read(&self.path)?;
        if let Some(helper) = file.helper(registry) {
            helper::store(&helper, &key(registry), credential).await?;
            // An entry without a secret says that there is a login, as Docker's does.
            file.set(registry, None);
            file.write()?;
            return Ok(Kept::Helper(helper));
        }
        file.set(registry, Some(credential));
        file.write()?;
        Ok(Kept::File(self.path.clone()))
    }

    /// Forgets a credential; whether there was one.
    pub async fn erase(&self, registry: &str) -> Result<bool, CredentialError> {
        let mut file = ConfigFile::read(&self.path)?;
        let mut known = false;
        if let Some(helper) = file.helper(registry)
            && helper::get(&helper, &key(registry)).await?.is_some()
        {
            helper::erase(&helper, &key(registry)).await?;
            known = true;
        }
        if file.remove(registry) {
            file.write()?;
            known = true;
        }
        Ok(known)
    }
}

/// The registry that a user means by `server`, which may be written as an
/// address; the hub without one.
pub fn registry_of(server: Option<&str>) -> Result<String, CredentialError> {
    let Some(server) = server else {
        return Ok(DEFAULT_REGISTRY.to_owned());
    };
    let host = host_of_key(server);
    if host == DEFAULT_REGISTRY {
        return Ok(host);
    }
    let bad = || CredentialError::Registry(server.chars().take(200).collect());
    let reference: Reference = format!("{host}/x").parse().map_err(|_| bad())?;
    match reference.registry() {
        DEFAULT_REGISTRY => Err(bad()),
        registry => Ok(registry.to_owned()),
    }
}

/// How Docker calls a registry.
fn key(registry: &str) -> String {
    match registry {
        DEFAULT_REGISTRY => HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry that a key of Docker's file means: old ones are addresses.
fn host_of_key(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = bare.split('/').next().unwrap_or_default();
    match host.to_ascii_lowercase().as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_be_written_in_many_ways() {
        for (server, registry) in [
            (None, "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("GHCR.io"), "ghcr.io"),
            (Some("https://reg.example:5000/v2/"), "reg.example:5000"),
            (Some("localhost"), "localhost"),
            (Some("[::1]:5000"), "[::1]:5000"),
        ] {
            assert_eq!(registry_of(server).unwrap(), registry);
        }
        for bad in ["", "nowhere", "a b", "host:99999", "../x"] {
            assert!(registry_of(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential {
            username: "me".to_owned(),
            secret: "hunter2".to_owned(),
        };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
