//! Templates. They are YAML; this reads the JSON in it, which is what isolazi writes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What an instance is to be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Template {
    minimum_lima_version: String,
    base: Vec<String>,
    pub(crate) cpus: u32,
    memory: String,
    disk: String,
    containerd: Containerd,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) provision: Vec<Provision>,
    pub(crate) port_forwards: Vec<Forward>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Containerd {
    system: bool,
    user: bool,
}

/// A folder of the host's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) location: PathBuf,
    mount_point: Option<PathBuf>,
    #[serde(default)]
    pub(crate) writable: bool,
}

/// What happens at every boot.
#[derive(Debug, Deserialize)]
#[serde(tag = "mode", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Provision {
    /// A file.
    Data {
        path: PathBuf,
        content: String,
        owner: String,
        permissions: String,
    },
    /// A script that root runs.
    System { script: String },
}

/// What of the guest's is to be had on the host.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Forward {
    Socket(SocketForward),
    Ports(PortForward),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SocketForward {
    pub(crate) guest_socket: PathBuf,
    pub(crate) host_socket: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortForward {
    #[serde(rename = "guestIP")]
    guest_ip: std::net::IpAddr,
    #[serde(rename = "guestIPMustBeZero")]
    guest_ip_must_be_zero: bool,
    proto: String,
    ignore: bool,
}

/// macOS' `sun_path`.
const UNIX_PATH_MAX: usize = 104;
const SYSTEM_FOLDERS: &[&str] = &[
    "/", "/bin", "/dev", "/etc", "/home", "/opt", "/sbin", "/tmp", "/usr", "/var",
];

impl Template {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let template: Self =
            serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<()> {
        let version = self.minimum_lima_version.split('.').map(str::parse::<u32>);
        let version: Vec<u32> = version.collect::<Result<_, _>>()?;
        ensure!(version.len() == 3, "minimumLimaVersion is no version");
        let bases = self.base.iter();
        for base in bases {
            ensure!(base.starts_with("template:"), "no such base: {base}");
        }
        ensure!(
            !self.base.is_empty(),
            "field `images` must be set, or a base that has them"
        );
        ensure!(self.cpus > 0, "field `cpus` must be set");
        for (field, size) in [("memory", &self.memory), ("disk", &self.disk)] {
            bytes(size).with_context(|| format!("field `{field}` has an invalid value"))?;
        }
        let Containerd { system, user } = self.containerd;
        ensure!(!system && !user, "there is no containerd here");
        for (index, mount) in self.mounts.iter().enumerate() {
            mount
                .check()
                .with_context(|| format!("field `mounts[{index}]`"))?;
        }
        for (index, forward) in self.port_forwards.iter().enumerate() {
            forward
                .check()
                .with_context(|| format!("field `portForwards[{index}]`"))?;
        }
        Ok(())
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        bytes(&self.memory).unwrap_or_default()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        bytes(&self.disk).unwrap_or_default()
    }
}

/// As `units.RAMInBytes` of docker/go-units has it, for the units that are written out.
fn bytes(text: &str) -> Result<u64> {
    for (unit, shift) in [("MiB", 20), ("GiB", 30)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<u64>()? << shift);
        }
    }
    anyhow::bail!("invalid size: {text:?}")
}

impl Mount {
    /// Where the guest has it.
    pub(crate) fn point(&self) -> &Path {
        self.mount_point.as_ref().unwrap_or(&self.location)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.location.is_absolute(), "must be an absolute path");
        ensure!(
            !self.location.exists() || self.location.is_dir(),
            "refers to a non-directory path: {}",
            self.location.display()
        );
        ensure!(
            !SYSTEM_FOLDERS
                .iter()
                .any(|it| Path::new(it) == self.point()),
            "must not be a system path such as /etc or /usr"
        );
        plain(&self.location.to_string_lossy())
    }
}

impl Forward {
    fn check(&self) -> Result<()> {
        match self {
            Self::Socket(it) => {
                ensure!(it.guest_socket.is_absolute(), "guestSocket is not absolute");
                ensure!(it.host_socket.is_absolute(), "hostSocket is not absolute");
                let length = it.host_socket.as_os_str().len();
                ensure!(
                    length < UNIX_PATH_MAX,
                    "hostSocket must be less than UNIX_PATH_MAX={UNIX_PATH_MAX} characters, but is {length}"
                );
                plain(&it.host_socket.to_string_lossy())
            }
            Self::Ports(it) => {
                ensure!(
                    !it.guest_ip_must_be_zero || it.guest_ip.is_unspecified(),
                    "guestIPMustBeZero can only be true when guestIP is 0.0.0.0"
                );
                ensure!(
                    ["tcp", "udp", "any"].contains(&it.proto.as_str()),
                    "no such proto: {}",
                    it.proto
                );
                ensure!(it.ignore, "ports are not forwarded here");
                Ok(())
            }
        }
    }
}

/// Refuses expressions other than those that are known here.
fn plain(text: &str) -> Result<()> {
    ensure!(!text.contains("{{"), "unknown expression in {text:?}");
    Ok(())
}

/// A script, or a file's content, with the one expression that is known here in it.
pub(crate) fn expanded(text: &str) -> Result<String> {
    let user = nix::unistd::getuid().to_string();
    let text = text.replace("{{.UID}}", &user);
    plain(&text)?;
    Ok(text)
}
