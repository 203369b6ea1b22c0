//! A real registry, Debian's docker-registry, on a free port of the loopback.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::eventually;

/// The registry's process; ends with this value.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Registry {
    /// Starts one that keeps its images below `storage` and its configuration and log in `folder`.
    pub fn start(storage: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(storage, folder, "")
    }

    /// One that demands a name and a password; `users` are lines as htpasswd writes them.
    pub fn start_guarded(storage: &Path, folder: &Path, users: &str) -> Result<Self> {
        let file = folder.join("htpasswd");
        fs::write(&file, users)?;
        let auth = format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            file.display()
        );
        Self::start_with(storage, folder, &auth)
    }

    fn start_with(storage: &Path, folder: &Path, more: &str) -> Result<Self> {
        let address = free_address()?;
        let config = folder.join("registry.yml");
        let log = folder.join("registry.log");
        fs::write(&config, configuration(storage, address) + more)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("cannot start docker-registry")?;
        let registry = Self {
            child,
            address,
            log,
        };
        eventually(Duration::from_secs(10), "the registry listens", || {
            Ok(TcpStream::connect(address).ok())
        })
        .with_context(|| registry.last_words())?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("docker-registry said: {}", log.trim())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address that nothing listens on. Another process may take it before it is
/// used; the registry then fails to start and says so.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn configuration(storage: &Path, address: SocketAddr) -> String {
    let storage = storage.display();
    format!(
        "version: 0.1\n\
         log:\n  level: warn\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {storage}\n  delete:\n    enabled: true\n\
         http:\n  addr: {address}\n"
    )
}
