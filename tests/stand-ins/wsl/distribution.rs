//! Distributions on disk.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::HOME;
use crate::arguments::Form;
use crate::say::Failure;

/// All of them.
pub(crate) struct Store(PathBuf);

/// One of them.
pub(crate) struct Distribution {
    name: String,
    folder: PathBuf,
}

impl Store {
    pub(crate) fn open() -> Result<Self, Failure> {
        let home = env::var_os(HOME).ok_or_else(|| Failure::Io(format!("{HOME} is not set")))?;
        let home = PathBuf::from(home);
        fs::create_dir_all(&home).map_err(Failure::io(home.display()))?;
        Ok(Self(home))
    }

    pub(crate) fn all(&self) -> Result<Vec<Distribution>, Failure> {
        let entries = fs::read_dir(&self.0).map_err(Failure::io(self.0.display()))?;
        let names = entries.flatten().map(|it| it.file_name());
        let mut all: Vec<_> = names
            .filter_map(|name| self.find(&name.to_string_lossy()).ok())
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Distribution, Failure> {
        let folder = self.0.join(name);
        match folder.join("version").is_file() {
            true => Ok(Distribution {
                name: name.to_owned(),
                folder,
            }),
            false => Err(Failure::NotFound),
        }
    }

    pub(crate) fn list(&self, form: Form) -> Result<String, Failure> {
        let all = self.all()?;
        if all.is_empty() {
            return Err(Failure::NoDefault);
        }
        let mut text = match form {
            Form::Verbose => "  NAME            STATE           VERSION\n".to_owned(),
            Form::Names { .. } => String::new(),
        };
        for (index, distribution) in all.iter().enumerate() {
            let mark = if index == 0 { '*' } else { ' ' };
            let running = distribution.is_running()?;
            let (name, state) = (
                &distribution.name,
                if running { "Running" } else { "Stopped" },
            );
            let _ = match form {
                Form::Verbose => {
                    let version = distribution.version()?;
                    writeln!(text, "{mark} {name:<15} {state:<15} {version}")
                }
                Form::Names { running: true } if !running => Ok(()),
                Form::Names { .. } => writeln!(text, "{name}"),
            };
        }
        Ok(text)
    }

    pub(crate) fn import(
        &self,
        name: &str,
        location: &str,
        tar: &str,
        version: u32,
    ) -> Result<(), Failure> {
        if self.find(name).is_ok() {
            return Err(Failure::Exists);
        }
        let rootfs = Path::new(location).join("rootfs");
        let unpack = || {
            fs::create_dir_all(&rootfs)?;
            let mut archive = tar::Archive::new(File::open(tar)?);
            archive.set_preserve_permissions(true);
            archive.set_preserve_ownerships(true);
            archive.unpack(&rootfs)?;
            let folder = self.0.join(name);
            fs::create_dir_all(&folder)?;
            let absolute = fs::canonicalize(&rootfs)?;
            fs::write(folder.join("location"), absolute.to_string_lossy().as_ref())?;
            fs::write(folder.join("version"), version.to_string())
        };
        unpack().map_err(Failure::io("The system cannot find the file specified"))
    }
}

impl Distribution {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.file(name);
        fs::read_to_string(&path).map_err(Failure::io(path.display()))
    }

    pub(crate) fn rootfs(&self) -> Result<PathBuf, Failure> {
        Ok(self.read("location")?.into())
    }

    fn version(&self) -> Result<String, Failure> {
        self.read("version")
    }

    /// A file that is locked by whoever is something.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File, Failure> {
        let path = self.file(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Failure::io(path.display()))
    }

    /// Whether it has a monitor, and that an init.
    pub(crate) fn is_running(&self) -> Result<bool, Failure> {
        Ok(self.lock_file("alive")?.try_lock().is_err() && self.init().is_some())
    }

    /// Process id of its PID 1.
    pub(crate) fn init(&self) -> Option<Pid> {
        let number = self.read("init").ok()?.trim().parse().ok()?;
        Some(Pid::from_raw(number))
    }

    /// Ends everything in it, and waits for that.
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        let alive = self.lock_file("alive")?;
        if alive.try_lock().is_ok() {
            return Ok(());
        }
        if let Some(init) = self.init() {
            let _ = kill(init, Signal::SIGKILL);
        }
        // The monitor goes with it.
        alive.lock().map_err(Failure::io("alive"))
    }

    pub(crate) fn remove(&self) -> Result<(), Failure> {
        self.terminate()?;
        for folder in [self.rootfs()?, self.folder.clone()] {
            fs::remove_dir_all(&folder).map_err(Failure::io(folder.display()))?;
        }
        Ok(())
    }
}
