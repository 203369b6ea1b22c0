//! All containers of one engine.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolazi_protocol::{
    ContainerDiskUsage, ContainerId, ContainerSpec, ContainerSummary, Digest, ErrorCode, WireError,
};

use crate::container::files::{ContainerDir, Record};
use crate::container::{names, now};
use crate::refusal::{Refusal, excerpt};
use crate::rootfs::usage;
use crate::sys::fs as fs_at;

/// What is left of a container that is being removed has its id behind this.
const REMAINS: &str = ".removed-";
/// Folder of the name links, out of the way of the ids.
const NAMES: &str = ".names";
/// A folder that is younger may still be in the making.
const MAKING: Duration = Duration::from_secs(10);
/// How often a made-up name may collide before something else must be wrong.
const NAME_ATTEMPTS: usize = 32;

/// Why a container cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name has characters that a name cannot have.
    #[error("'{0}' is not a container name: use letters, digits, '_', '.' and '-', at least two")]
    BadName(String),
    /// The name belongs to another container.
    #[error(
        "the name '{0}' is taken; remove that container (isolazi rm {0}) or choose another name"
    )]
    NameTaken(String),
    /// Nothing answers to this name or id.
    #[error("no such container: {0}; isolazi ps -a lists them")]
    NotFound(String),
    /// Several ids start like this.
    #[error("'{0}' is the start of several container ids; give more of it")]
    Ambiguous(String),
    /// It cannot be removed while it runs.
    #[error("container {0} is running; stop it first or use rm -f")]
    Running(String),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] Refusal),
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let refusal = Refusal::of(action, path);
        move |source| refusal(source).into()
    }
}

impl From<StoreError> for WireError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::BadName(_) | StoreError::Ambiguous(_) => ErrorCode::InvalidArgument,
            StoreError::NameTaken(_) | StoreError::Running(_) => ErrorCode::Conflict,
            StoreError::NotFound(_) => ErrorCode::NotFound,
            StoreError::Io(refusal) => return refusal.into(),
        };
        Self::new(code, error.to_string())
    }
}

/// The folder that holds every container.
#[derive(Debug, Clone)]
pub struct ContainerStore {
    root: PathBuf,
    in_guest: bool,
}

/// A container that exists, and whose lock its maker still holds.
#[derive(Debug)]
pub struct NewContainer {
    /// Its folder.
    pub dir: ContainerDir,
    /// How it was made.
    pub record: Record,
    /// Its lock, to be handed to its shim.
    pub lock: fs::File,
}

impl ContainerStore {
    /// The store in `root`, which is made where it is missing.
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        let names = root.join(NAMES);
        if !names.is_dir() {
            fs::create_dir_all(&names).map_err(StoreError::io("create", &names))?;
        }
        Ok(Self {
            root,
            in_guest: false,
        })
    }

    /// The store that has the container in `dir`.
    pub(crate) fn of(dir: &ContainerDir) -> Result<Self, StoreError> {
        Self::open(dir.path().parent().unwrap_or(dir.path()).to_owned())
    }

    /// The folder of the engine, which has this one.
    pub(crate) fn engine(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// The same store, of a guest: it makes up other names.
    pub fn in_guest(self, in_guest: bool) -> Self {
        Self { in_guest, ..self }
    }

    /// Makes a container's folder and reserves its name. The container counts
    /// as existing only after [`NewContainer::finish`].
    pub fn create(&self, spec: ContainerSpec) -> Result<NewContainer, StoreError> {
        if let Some(name) = spec.name.as_deref().filter(|name| !names::is_valid(name)) {
            return Err(StoreError::BadName(excerpt(name)));
        }
        let id = random_id()?;
        let dir = ContainerDir::new(self.root.join(id.as_str()));
        fs::create_dir(dir.path()).map_err(StoreError::io("create", dir.path()))?;
        let reserved = self.lock_and_name(&dir, &id, spec.name.as_deref());
        let (lock, name) = reserved.inspect_err(|_| {
            // Nothing else knows the folder yet.
            let _ = fs::remove_dir_all(dir.path());
        })?;
        let record = Record {
            id,
            name,
            created_at: now(),
            spec,
            userns: None,
        };
        Ok(NewContainer { dir, record, lock })
    }

    /// The container with this id, this name, or this unambiguous start of an id, looked
    /// for in this order, as Docker does.
    pub fn find(&self, reference: &str) -> Result<ContainerDir, StoreError> {
        if let Ok(id) = reference.parse::<ContainerId>()
            && self.exists(&id)
        {
            return Ok(self.dir(&id));
        }
        if names::is_valid(reference)
            && let Some(dir) = self.by_name(reference)
        {
            return Ok(dir);
        }
        let mut matches = self.ids().filter(|id| id.as_str().starts_with(reference));
        let not_found = || StoreError::NotFound(excerpt(reference));
        let first = match reference.is_empty() {
            true => None,
            false => matches.next(),
        };
        let first = first.ok_or_else(not_found)?;
        match matches.next() {
            None => Ok(self.dir(&first)),
            Some(_) => Err(StoreError::Ambiguous(reference.to_owned())),
        }
    }

    /// Every container, newest first. One whose files cannot be read is left
    /// out, and the others are listed all the same.
    pub fn list(&self, all: bool) -> Vec<ContainerSummary> {
        let mut containers: Vec<_> = self
            .ids()
            .map(|id| self.dir(&id))
            .filter_map(|dir| {
                // The small file first: most of what has ended is not read any further.
                let state = dir.state().ok()?;
                let wanted = all || state.is_active();
                wanted.then(|| dir.summary(state).ok()).flatten()
            })
            .collect();
        containers.sort_by_key(|summary| std::cmp::Reverse(summary.created_at));
        containers
    }

    /// Gives a container another name.
    pub fn rename(&self, dir: &ContainerDir, name: &str) -> Result<(), StoreError> {
        if !names::is_valid(name) {
            return Err(StoreError::BadName(excerpt(name)));
        }
        let _lock = self.lock_names()?;
        let mut record = dir.record().map_err(StoreError::io("read", dir.path()))?;
        if record.name == name {
            return Ok(());
        }
        let is_free = self.reserve_once(name, &record.id)?
            || self.free_stale(name)? && self.reserve_once(name, &record.id)?;
        if !is_free {
            return Err(StoreError::NameTaken(name.to_owned()));
        }
        let old = std::mem::replace(&mut record.name, name.to_owned());
        // The record decides: after a crash here the other name leads nowhere.
        let renamed = dir.set_record(&record, true);
        let stale = if renamed.is_ok() { &old } else { &record.name };
        let link = self.root.join(NAMES).join(stale);
        fs::remove_file(&link).map_err(StoreError::io("remove", &link))?;
        renamed.map_err(StoreError::io("rename", dir.path()))
    }

    /// Finds out what each of these has written to its root file system.
    pub fn measure(&self, mut containers: Vec<ContainerSummary>) -> Vec<ContainerSummary> {
        for container in &mut containers {
            let upper = self.dir(&container.id).path().join("upper");
            // One that is removed in this moment has nothing.
            let folder = crate::sys::fs::open_dir(&upper);
            container.size = folder.ok().map(|it| usage::of(it.as_fd()));
        }
        containers
    }

    /// How each container was made. One whose files cannot be read is left out.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.ids().filter_map(|id| self.dir(&id).record().ok())
    }

    /// The layers that containers are made of. Fails where one cannot be told,
    /// rather than leave out what a container stands on.
    pub fn layers_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut layers = HashSet::new();
        for id in self.ids() {
            let dir = self.dir(&id);
            match dir.record() {
                Ok(record) => layers.extend(record.spec.layers),
                // Removed in this moment.
                Err(_) if !dir.path().join("config.json").exists() => {}
                Err(source) => {
                    let action = "tell the layers of; remove that container (isolazi rm -f)";
                    return Err(StoreError::io(action, Path::new(id.short()))(source));
                }
            }
        }
        Ok(layers)
    }

    /// What each container's own files take on disk.
    pub fn usage(&self) -> Vec<ContainerDiskUsage> {
        let containers = self.ids().filter_map(|id| {
            let folder = fs_at::open_dir(self.dir(&id).path()).ok()?;
            Some(ContainerDiskUsage {
                bytes: usage::of(folder.as_fd()),
                id,
            })
        });
        containers.collect()
    }

    /// Removes an ended container: its processes are gone, its lock is free.
    pub fn remove(&self, dir: &ContainerDir) -> Result<(), StoreError> {
        let label = || dir.path().file_name().unwrap_or_default().to_string_lossy();
        let short = || label().chars().take(ContainerId::SHORT).collect();
        let lock = match dir.lock() {
            Ok(lock) => lock.ok_or_else(|| StoreError::Running(short()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(short()));
            }
            Err(error) => return Err(StoreError::io("lock", dir.path())(error)),
        };
        if let Ok(plan) = dir.plan() {
            // A cgroup that is in use by somebody else's doing must not keep the folder.
            crate::launch::cleanup(&plan);
        }
        let deleted = self.delete(dir);
        drop(lock);
        deleted
    }

    /// Deletes a container's folder and gives its name back. Its lock must be
    /// held by the caller.
    pub fn delete(&self, dir: &ContainerDir) -> Result<(), StoreError> {
        let record = dir.record();
        // In one step it is no container any more, whatever happens to the rest.
        let id = dir.path().file_name().unwrap_or_default();
        let remains = self.root.join(format!("{REMAINS}{}", id.display()));
        fs::rename(dir.path(), &remains).map_err(StoreError::io("remove", dir.path()))?;
        if let Ok(record) = record {
            let _lock = self.lock_names()?;
            let link = self.root.join(NAMES).join(&record.name);
            // Somebody else may have it by now, or have swept it away.
            if fs::read_link(&link).is_ok_and(|target| target.as_os_str() == record.id.as_str()) {
                fs::remove_file(&link).map_err(StoreError::io("remove", &link))?;
            }
        }
        // The lock goes last: as long as there is anything to sweep away, it is there.
        for entry in fs::read_dir(&remains).into_iter().flatten().flatten() {
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ if entry.file_name() == "lock" => Ok(()),
                _ => fs::remove_file(&path),
            };
            removed.map_err(StoreError::io("remove", &path))?;
        }
        fs::remove_dir_all(&remains).map_err(StoreError::io("remove", &remains))
    }

    /// Removes what interrupted work has left: folders that never became
    /// containers or already ceased to be, and names without a container.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            // A younger one may be about to be locked by its maker.
            let is_old = || {
                let changed = entry.metadata().and_then(|it| it.modified());
                changed.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > MAKING))
            };
            let is_container = || entry.path().join("config.json").exists();
            let is_half_made = name.parse::<ContainerId>().is_ok() && !is_container() && is_old();
            let is_remains = name.starts_with(REMAINS);
            if !is_remains && !is_half_made {
                continue;
            }
            // Without a lock it is empty, or somebody is just about to say so.
            let _ = fs::remove_dir(entry.path());
            if let Ok(Some(_lock)) = ContainerDir::new(entry.path()).lock_remains()
                && (is_remains || !is_container())
            {
                // Tried again at the next start where it fails.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        self.sweep_names();
    }

    fn sweep_names(&self) {
        let names = fs::read_dir(self.root.join(NAMES)).into_iter().flatten();
        let leads_nowhere = |entry: &fs::DirEntry| {
            let target = fs::read_link(entry.path());
            target.is_ok_and(|id| !self.root.join(id).exists())
        };
        let stale: Vec<_> = names.flatten().filter(leads_nowhere).collect();
        if stale.is_empty() {
            return;
        }
        let _lock = self.lock_names();
        for entry in stale {
            if let Some(name) = entry.file_name().to_str() {
                // Tried again at the next start where it fails.
                let _ = self.free_stale(name);
            }
        }
    }

    fn dir(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir::new(self.root.join(id.as_str()))
    }

    /// Ids of the containers that exist.
    fn ids(&self) -> impl Iterator<Item = ContainerId> {
        fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id| self.exists(id))
    }

    /// One without a record is still being made, or was not made to the end.
    fn exists(&self, id: &ContainerId) -> bool {
        self.dir(id).path().join("config.json").exists()
    }

    fn by_name(&self, name: &str) -> Option<ContainerDir> {
        let target = fs::read_link(self.root.join(NAMES).join(name)).ok()?;
        let id: ContainerId = target.to_str()?.parse().ok()?;
        let dir = self.dir(&id);
        // A renaming that was cut short leaves a link too many.
        let named = dir.record().is_ok_and(|record| record.name == name);
        (named || self.is_unreadable(&dir)).then_some(dir)
    }

    /// Whether it exists and does not say what it is.
    fn is_unreadable(&self, dir: &ContainerDir) -> bool {
        dir.path().join("config.json").exists() && dir.record().is_err()
    }

    fn lock_and_name(
        &self,
        dir: &ContainerDir,
        id: &ContainerId,
        wanted: Option<&str>,
    ) -> Result<(fs::File, String), StoreError> {
        let lock = dir
            .lock_folder()
            .map_err(StoreError::io("lock", dir.path()))?;
        let lock = lock.ok_or_else(|| StoreError::Running(id.short().to_owned()))?;
        if let Some(name) = wanted {
            return match self.reserve(name, id)? {
                true => Ok((lock, name.to_owned())),
                false => Err(StoreError::NameTaken(name.to_owned())),
            };
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = names::made_up(id, attempt, self.in_guest);
            if self.reserve(&name, id)? {
                return Ok((lock, name));
            }
        }
        Err(StoreError::NameTaken(names::made_up(
            id,
            NAME_ATTEMPTS,
            self.in_guest,
        )))
    }

    /// Whether the folder `id` exists and is, or becomes, a container called
    /// `name`. The names are locked, so nothing is just being renamed.
    fn is_called(&self, id: &Path, name: &str) -> bool {
        let dir = ContainerDir::new(self.root.join(id));
        dir.path().exists() && dir.record().map_or(true, |record| record.name == name)
    }

    /// Held while a container has two names, and to take a name from nobody.
    fn lock_names(&self) -> Result<fs::File, StoreError> {
        let path = self.root.join(NAMES);
        let folder = fs::File::open(&path).map_err(StoreError::io("open", &path))?;
        folder.lock().map_err(StoreError::io("lock", &path))?;
        Ok(folder)
    }

    /// Links `name` to `id`, unless something has that name.
    fn reserve_once(&self, name: &str, id: &ContainerId) -> Result<bool, StoreError> {
        let link = self.root.join(NAMES).join(name);
        match symlink(id.as_str(), &link) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::io("create", &link)(error)),
        }
    }

    /// Links `name` to `id`, unless a container has it.
    fn reserve(&self, name: &str, id: &ContainerId) -> Result<bool, StoreError> {
        while !self.reserve_once(name, id)? {
            let _lock = self.lock_names()?;
            if !self.free_stale(name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a name away that a crash has left; whether it is free by now. The
    /// names are locked: of two who both found it stale, the second would take
    /// it from the first.
    ///
    /// A folder is made before its name is linked, and goes after it, so a link
    /// without a folder leads nowhere for good.
    fn free_stale(&self, name: &str) -> Result<bool, StoreError> {
        let link = self.root.join(NAMES).join(name);
        if let Ok(target) = fs::read_link(&link)
            && self.is_called(&target, name)
        {
            return Ok(false);
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &link)(error))
            }
            _ => Ok(true),
        }
    }
}

/// An id that nobody has.
pub(crate) fn random_id() -> Result<ContainerId, Refusal> {
    let mut bytes = [0; 32];
    let source = Path::new("/dev/urandom");
    fs::File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Refusal::of("read", source))?;
    Ok(ContainerId::from_random(&bytes))
}

#[cfg(test)]
mod tests;
