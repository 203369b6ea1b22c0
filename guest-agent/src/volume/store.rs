//! All volumes of one engine.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use isolazi_protocol::{ErrorCode, VolumeDetail, VolumeMount, VolumeUsage, WireError};
use serde::{Deserialize, Serialize};

use crate::container::{ContainerStore, is_valid_name, now, random_id};
use crate::refusal::{Refusal, excerpt};
use crate::rootfs;
use crate::sys::fs::open_dir;

const LOCK: &str = ".lock";
const METADATA: &str = "metadata.json";
/// The content, by Docker's name for it.
pub(super) const DATA: &str = "_data";
/// Start of the names of what is coming to be, and of what is on its way out.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// Why a volume cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The name has characters that a name cannot have.
    #[error("'{0}' is not a volume name: use letters, digits, '_', '.' and '-', at least two")]
    BadName(String),
    /// There is none of this name.
    #[error("no such volume: {0}; isolazi volume ls lists them")]
    NotFound(String),
    /// A container has it.
    #[error(
        "volume {volume} is in use by container {container}; remove that container first (isolazi rm {container})"
    )]
    InUse {
        /// The volume.
        volume: String,
        /// The container's name.
        container: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] Refusal),
}

impl VolumeError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let refusal = Refusal::of(action, path);
        move |source| refusal(source).into()
    }
}

impl From<VolumeError> for WireError {
    fn from(error: VolumeError) -> Self {
        let code = match &error {
            VolumeError::BadName(_) => ErrorCode::InvalidArgument,
            VolumeError::NotFound(_) => ErrorCode::NotFound,
            VolumeError::InUse { .. } => ErrorCode::Conflict,
            VolumeError::Io(refusal) => return refusal.into(),
        };
        Self::new(code, error.to_string())
    }
}

/// `metadata.json`: all of a volume but its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    name: String,
    created_at: u64,
    labels: BTreeMap<String, String>,
    anonymous: bool,
}

/// The folder that holds every volume. It is made with the first one.
#[derive(Debug, Clone)]
pub struct VolumeStore {
    root: PathBuf,
    containers: ContainerStore,
}

/// As long as this exists, no volume is removed.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held for its lock")] File);

impl VolumeStore {
    /// The volumes in `root`, which the containers of `containers` may have.
    pub fn new(root: PathBuf, containers: ContainerStore) -> Self {
        Self { root, containers }
    }

    /// A volume's folder. The name must have been checked.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A volume's content.
    pub fn data(folder: &Path) -> PathBuf {
        folder.join(DATA)
    }

    /// Keeps volumes from being removed.
    pub fn hold(&self) -> Result<Hold, VolumeError> {
        let lock = self.lock_file()?;
        lock.lock_shared()
            .map_err(VolumeError::io("lock", &self.root))?;
        Ok(Hold(lock))
    }

    /// Makes the volumes of a container that are not there yet, and gives the
    /// anonymous ones their names. Where the container does not outlive a power
    /// cut, `auto_remove`, its anonymous volumes need not either.
    pub fn settle(
        &self,
        _hold: &Hold,
        mounts: &mut [VolumeMount],
        auto_remove: bool,
    ) -> Result<(), VolumeError> {
        for index in 0..mounts.len() {
            let mount = &mut mounts[index];
            if mount.anonymous {
                mount.name = self.made_up()?;
            }
            let labels = std::mem::take(&mut mount.labels);
            let durable = !(mount.anonymous && auto_remove);
            let made = self.ensure(&mount.name, labels, mount.anonymous, durable);
            if let Err(error) = made {
                for earlier in mounts.iter().take(index).filter(|it| it.anonymous) {
                    // Nobody knows of it yet; what stays is removed by `prune`.
                    let _ = self.delete(&earlier.name);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes a volume of the user's, unless it is there already.
    pub fn create(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
    ) -> Result<VolumeDetail, VolumeError> {
        let _hold = self.hold()?;
        let (name, anonymous) = match name {
            Some(name) => (name.to_owned(), false),
            None => (self.made_up()?, true),
        };
        self.ensure(&name, labels, anonymous, true)?;
        self.detail(&name)
    }

    /// All of them, by name. One whose files cannot be read is left out.
    pub fn list(&self) -> Vec<VolumeDetail> {
        let mut volumes: Vec<_> = self
            .names()
            .filter_map(|name| self.detail(&name).ok())
            .collect();
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        volumes
    }

    /// What is known of a volume.
    pub fn detail(&self, name: &str) -> Result<VolumeDetail, VolumeError> {
        if !is_valid_name(name) || !self.folder(name).is_dir() {
            return Err(VolumeError::NotFound(excerpt(name)));
        }
        let path = self.folder(name).join(METADATA);
        let metadata: Metadata = fs::read(&path)
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .map_err(VolumeError::io("read", &path))?;
        let data = Self::data(&self.folder(name));
        Ok(VolumeDetail {
            name: metadata.name,
            created_at: metadata.created_at,
            labels: metadata.labels,
            anonymous: metadata.anonymous,
            mountpoint: data.display().to_string(),
        })
    }

    /// What the volumes take on disk, by name.
    pub fn usage(&self) -> Vec<VolumeUsage> {
        let used = self.used();
        let usage = |volume: VolumeDetail| VolumeUsage {
            bytes: bytes_below(Path::new(&volume.mountpoint)),
            in_use: used.contains(&volume.name),
            name: volume.name,
        };
        self.list().into_iter().map(usage).collect()
    }

    /// Removes a volume that no container has.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let not_found = || VolumeError::NotFound(excerpt(name));
        if !is_valid_name(name) || !self.root.exists() {
            return Err(not_found());
        }
        let _lock = self.lock_exclusively()?;
        if !self.folder(name).is_dir() {
            return Err(not_found());
        }
        match self.user_of(name) {
            Some(container) => Err(VolumeError::InUse {
                volume: name.to_owned(),
                container,
            }),
            None => self.delete(name),
        }
    }

    /// Removes the anonymous volumes of a container that is gone. One that
    /// another container took for itself stays.
    pub fn remove_of(&self, mounts: &[VolumeMount]) -> Result<(), VolumeError> {
        for mount in mounts.iter().filter(|mount| mount.anonymous) {
            match self.remove(&mount.name) {
                Ok(()) | Err(VolumeError::NotFound(_) | VolumeError::InUse { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Removes the anonymous volumes that no container has, or with `all`
    /// every such volume; returns their names and size.
    pub fn prune(&self, all: bool) -> Result<(Vec<String>, u64), VolumeError> {
        if !self.root.exists() {
            return Ok((Vec::new(), 0));
        }
        let _lock = self.lock_exclusively()?;
        let used = self.used();
        let mut removed = (Vec::new(), 0);
        for volume in self.list() {
            if used.contains(&volume.name) || !(all || volume.anonymous) {
                continue;
            }
            let bytes = bytes_below(Path::new(&volume.mountpoint));
            self.delete(&volume.name)?;
            removed.0.push(volume.name);
            removed.1 += bytes;
        }
        Ok(removed)
    }

    /// Clears away what interrupted work has left, unless somebody works here.
    pub fn sweep(&self) {
        let unfinished: Vec<_> = self
            .entries()
            .filter(|name| name.starts_with(NEW) || name.starts_with(GONE))
            .collect();
        if unfinished.is_empty() {
            return;
        }
        let Ok(lock) = self.lock_file() else {
            return;
        };
        if matches!(lock.try_lock(), Ok(())) {
            for name in unfinished {
                // Tried again at the next start where it fails.
                let _ = self.erase(&name);
            }
        }
    }

    /// Names of those that containers have.
    fn used(&self) -> HashSet<String> {
        self.containers.records().flat_map(volumes_of).collect()
    }

    /// Makes the volume where there is none of that name.
    fn ensure(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        anonymous: bool,
        durable: bool,
    ) -> Result<(), VolumeError> {
        if !is_valid_name(name) {
            return Err(VolumeError::BadName(excerpt(name)));
        }
        let folder = self.folder(name);
        if folder.is_dir() {
            return Ok(());
        }
        let metadata = Metadata {
            name: name.to_owned(),
            created_at: now(),
            labels,
            anonymous,
        };
        let new = self.root.join(format!("{NEW}{}", self.made_up()?));
        let made = build(&new, &metadata, durable).and_then(|()| fs::rename(&new, &folder));
        match made {
            Ok(()) => {
                self.tell(name, "create");
                match durable {
                    true => sync(&self.root).map_err(VolumeError::io("write", &self.root)),
                    false => Ok(()),
                }
            }
            Err(error) => {
                let _ = fs::remove_dir_all(&new);
                // Somebody else may just have made it.
                match folder.is_dir() {
                    true => Ok(()),
                    false => Err(VolumeError::io("make the volume", &folder)(error)),
                }
            }
        }
    }

    /// Takes a volume away at once, and then its content.
    fn delete(&self, name: &str) -> Result<(), VolumeError> {
        let folder = self.folder(name);
        let gone = format!("{GONE}{}", self.made_up()?);
        fs::rename(&folder, self.root.join(&gone)).map_err(VolumeError::io("remove", &folder))?;
        self.tell(name, "destroy");
        self.erase(&gone)
            .map_err(VolumeError::io("remove", &folder))
    }

    fn tell(&self, name: &str, action: &str) {
        if let Some(root) = self.root.parent() {
            crate::events::volume(root, name, action, &[]);
        }
    }

    fn erase(&self, name: &str) -> io::Result<()> {
        let root = open_dir(&self.root)?;
        rootfs::remove_at(std::os::fd::AsFd::as_fd(&root), name.as_bytes())
    }

    /// Name of a container that has the volume.
    fn user_of(&self, name: &str) -> Option<String> {
        let mut records = self.containers.records();
        let user = records.find(|record| {
            let volumes = &record.spec.options.volumes;
            volumes.iter().any(|volume| volume.name == name)
        });
        user.map(|record| record.name)
    }

    fn made_up(&self) -> Result<String, VolumeError> {
        Ok(random_id()?.to_string())
    }

    fn lock_exclusively(&self) -> Result<File, VolumeError> {
        let lock = self.lock_file()?;
        lock.lock().map_err(VolumeError::io("lock", &self.root))?;
        Ok(lock)
    }

    fn lock_file(&self) -> Result<File, VolumeError> {
        if !self.root.is_dir() {
            fs::create_dir_all(&self.root).map_err(VolumeError::io("create", &self.root))?;
        }
        let path = self.root.join(LOCK);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(VolumeError::io("open", &path))
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.entries().filter(|name| is_valid_name(name))
    }

    fn entries(&self) -> impl Iterator<Item = String> + use<> {
        let entries = fs::read_dir(&self.root).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
    }
}

fn volumes_of(record: crate::container::Record) -> impl Iterator<Item = String> {
    record.spec.options.volumes.into_iter().map(|it| it.name)
}

fn build(folder: &Path, metadata: &Metadata, durable: bool) -> io::Result<()> {
    fs::create_dir(folder)?;
    let data = folder.join(DATA);
    fs::create_dir(&data)?;
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut file = File::create(folder.join(METADATA))?;
    file.write_all(&serde_json::to_vec(metadata)?)?;
    if durable {
        file.sync_data()?;
        sync(folder)?;
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Bytes of all files below `folder`; what cannot be read counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
