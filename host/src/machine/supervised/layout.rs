//! The machine's files.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::machine::MachineError;
use crate::machine::fingerprint::fingerprint;
use crate::paths;

/// A socket's address is at most 107 bytes on Linux (unix(7)) and 103 on macOS
/// (`sys/un.h`); this leaves room for names.
const LONGEST_SOCKET_FOLDER: usize = 80;

/// Where the machine's files are. Sockets have a folder of their own, because
/// the data root may be too deep for a socket's address.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
    sockets: PathBuf,
}

impl Layout {
    /// The layout below `folder`, the data root's `machine`. Creates nothing.
    pub fn new(folder: &Path) -> Result<Self, MachineError> {
        let own = folder.join("run");
        let sockets = match own.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
            true => own,
            false => short_folder(folder),
        };
        Ok(Self {
            folder: folder.to_owned(),
            sockets,
        })
    }

    /// Makes the folders, for the user alone.
    pub fn create(&self) -> Result<(), MachineError> {
        for folder in [&self.folder, &self.sockets] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(MachineError::io("create", folder))?;
            private(folder)?;
        }
        Ok(())
    }

    /// Removes all of the machine but the lock, which the caller holds.
    pub fn remove(&self) -> Result<(), MachineError> {
        let failed = || MachineError::io("remove", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if path == self.lock_path() {
                continue;
            }
            let removed = match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(MachineError::io("remove", &path))?;
        }
        match fs::remove_dir_all(&self.sockets) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(MachineError::io("remove", &self.sockets)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether a supervisor lives.
    pub fn is_running(&self) -> bool {
        File::open(self.lock_path())
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Takes the supervisor's lock; `None` where another one has it.
    pub fn lock(&self) -> Result<Option<File>, MachineError> {
        let path = self.lock_path();
        let file = File::create(&path).map_err(MachineError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(MachineError::io("lock", &path)(error)),
        }
    }

    /// Where all but sockets lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The supervisor's listening socket.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join("supervisor.sock")
    }

    /// A socket of one of the helpers.
    pub fn helper_socket(&self, name: &str) -> PathBuf {
        self.sockets.join(format!("{name}.sock"))
    }

    /// What the supervisor and the helpers complain about.
    pub fn supervisor_log(&self) -> PathBuf {
        self.folder.join("supervisor.log")
    }

    /// What the guest's kernel and PID 1 print.
    pub fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The guest's disk.
    pub fn disk(&self) -> PathBuf {
        self.folder.join(paths::DISK)
    }

    /// The initramfs of the present boot.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("boot.cpio")
    }

    /// What the machine consists of.
    pub fn record(&self) -> PathBuf {
        self.folder.join("machine.json")
    }

    /// What the user has shared with the guest.
    pub fn consent(&self) -> PathBuf {
        self.folder.join("consent.json")
    }

    /// What was found out about the processor's virtualization.
    pub fn probe_result(&self) -> PathBuf {
        self.folder.join("accelerator")
    }
}

fn short_folder(folder: &Path) -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = base.filter(|base| base.is_absolute() && base.as_os_str().len() < 50);
    let base = base.unwrap_or_else(|| {
        let name = format!("isolazi-{}", nix::unistd::getuid());
        std::env::temp_dir().join(name)
    });
    base.join(format!("isolazi-{:016x}", fingerprint(folder)))
}

/// Lets nobody but its owner connect to the socket at `path`. Until then its folder
/// keeps others out.
pub(crate) fn keep_private(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Refuses a folder that somebody else owns or can enter: in a shared place
/// another user may have been there first.
fn private(folder: &Path) -> Result<(), MachineError> {
    let unsafe_folder = || {
        MachineError::Failed(format!(
            "{} belongs to somebody else or is open to others; remove it",
            folder.display()
        ))
    };
    let found = fs::symlink_metadata(folder).map_err(MachineError::io("look at", folder))?;
    let own = found.is_dir() && found.uid() == nix::unistd::getuid().as_raw();
    match own && found.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(unsafe_folder()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_fit_their_address_however_deep_the_data_root_is() {
        let deep = PathBuf::from(format!("/{}", "x".repeat(200)));
        let layout = Layout::new(&deep).unwrap();
        assert!(layout.socket().as_os_str().len() < 108);
        let shallow = Layout::new(Path::new("/a")).unwrap();
        assert_eq!(shallow.socket(), Path::new("/a/run/supervisor.sock"));
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let machine = folder.path().join("machine");
        let layout = Layout::new(&machine).unwrap();
        layout.create().unwrap();
        fs::set_permissions(&machine, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(layout.create().is_err());
    }

    #[test]
    fn a_machine_that_is_removed_leaves_its_lock_only() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("machine")).unwrap();
        layout.create().unwrap();
        let lock = layout.lock().unwrap();
        fs::write(layout.disk(), "x").unwrap();
        layout.remove().unwrap();
        let left: Vec<_> = fs::read_dir(layout.folder()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(lock.is_some() && layout.is_running());
    }

    #[test]
    fn the_lock_tells_whether_a_supervisor_lives() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        assert!(!layout.is_running());
        let lock = layout.lock().unwrap();
        assert!(lock.is_some() && layout.is_running());
        assert!(layout.lock().unwrap().is_none());
        drop(lock);
        assert!(!layout.is_running());
    }
}
