//! A distribution of the Windows Subsystem for Linux.
//!
//! ```text
//!  command ─┬─► wsl.exe ─► wsl-serve      one a conversation; its streams carry it
//!           └─► wsl.exe ─► wsl-hold       detached: the distribution ends with the
//!                                         last program that Windows has started in it
//! ```
//!
//! The distribution is made of the appliance's agent and nothing else, imported by
//! the first command that needs it; another appliance's agent is put in its place.
//! Its disk is where containers and layers live. Windows' drives are below `/mnt`
//! there, and what listens there, such as a published port, is on Windows' localhost, by the
//! subsystem's doing.

mod command;
mod list;
mod path;
mod pipe;
mod rootfs;
mod trouble;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::appliance::INITRAMFS;
use isolazi_protocol::wsl::Held;
use isolazi_protocol::{BindSource, Digest, HostAddress, Isolation, Request};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::connection::{Conversation, Dialed};
use crate::engine::Engine;
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::find_program;
use crate::machine::{
    Backend, Machine, MachineError, MachineLog, MachineState, Outside, Resolver, VirtualMachine,
    Word, known,
};
use crate::paths::Paths;
use crate::{files, output, revive};

use list::Row;
use pipe::Pipe;

/// What a distribution may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// What executes the guest, for `vm status`.
const ACCELERATOR: &str = "hyper-v";

/// What is known of the distribution, in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Digest of the boot image that its agent is from.
    agent: Digest,
    /// Milliseconds that its last start took.
    #[serde(default)]
    boot_ms: u64,
}

/// The distribution of a data root.
#[derive(Debug, Clone)]
pub struct Wsl2 {
    name: String,
    paths: Paths,
    /// Somebody held when this was last looked at, and nothing has failed since.
    ready: Arc<AtomicBool>,
    getting_ready: Arc<Mutex<()>>,
}

impl Wsl2 {
    /// The distribution whose state is below `paths`. Starts nothing.
    pub fn new(paths: &Paths) -> Self {
        Self {
            name: command::distribution(paths.root(), Paths::default_root().as_deref()),
            paths: paths.clone(),
            ready: Arc::default(),
            getting_ready: Arc::default(),
        }
    }

    /// Removes the distribution with everything in it; tells whether there was one.
    ///
    /// # Errors
    /// Where `wsl.exe` is missing or refuses.
    async fn remove(&self) -> Result<bool, MachineError> {
        let _lock = self.lock().await?;
        let existed = self.row().await?.is_some();
        if existed {
            self.run(command::unregister(&self.name)).await?;
        }
        known::write(&self.paths.machine(), Vec::new())?;
        let record = self.file("wsl2.json");
        match fs::remove_file(&record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(MachineError::io("remove", &record)(error))
            }
            _ => Ok(existed),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.paths.machine().join(name)
    }

    fn record(&self) -> Option<Record> {
        let text = fs::read(self.file("wsl2.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write_record(&self, record: &Record) -> Result<(), MachineError> {
        let path = self.file("wsl2.json");
        serde_json::to_vec(record)
            .map_err(std::io::Error::from)
            .and_then(|text| files::replace(&path, &text))
            .map_err(MachineError::io("write", &path))
    }

    /// Keeps other commands from importing or removing the distribution.
    async fn lock(&self) -> Result<File, MachineError> {
        let folder = self.paths.machine();
        fs::create_dir_all(&folder).map_err(MachineError::io("create", &folder))?;
        let path = self.file("wsl2.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(MachineError::io("open", &path))?;
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        locked
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(MachineError::io("lock", &path))
    }

    /// `wsl.exe` with `arguments`, apart from the user's terminal.
    fn wsl(&self, arguments: &[String]) -> Result<Command, MachineError> {
        let program = find_program(&Backend::Wsl2.program())
            .ok_or(MachineError::NoHypervisor(Backend::Wsl2))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(command::UTF8_VARIABLE, "1")
            .stdin(Stdio::null());
        command::set_apart(&mut command);
        Ok(command)
    }

    /// Runs `wsl.exe` to its end; returns what it said.
    async fn run(&self, arguments: Vec<String>) -> Result<String, MachineError> {
        let started = self.wsl(&arguments)?.kill_on_drop(true).output().await;
        let done = started.map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        let said = command::text(&[done.stdout, done.stderr].concat());
        self.judge(done.status, &said)?;
        Ok(said)
    }

    fn judge(&self, status: ExitStatus, said: &str) -> Result<(), MachineError> {
        match status.success() {
            true => Ok(()),
            false => Err(MachineError::Failed(trouble::explain(&self.name, said))),
        }
    }

    /// What `wsl.exe` knows of the distribution.
    async fn row(&self) -> Result<Option<Row>, MachineError> {
        let said = match self.run(command::list()).await {
            Ok(said) => said,
            // The first of all.
            Err(MachineError::Failed(reason)) if trouble::is_no_distribution(&reason) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(list::find(&said, &self.name))
    }

    /// Whether it runs. The state is a word in Windows' language, but for those
    /// that run there is a list of names alone.
    async fn is_up(&self) -> Result<bool, MachineError> {
        let Some(row) = self.row().await? else {
            return Ok(false);
        };
        if let Some(known) = row.is_running() {
            return Ok(known);
        }
        match self.run(command::list_running()).await {
            Ok(said) => Ok(said.lines().any(|line| line.trim() == self.name)),
            Err(MachineError::Failed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Imports the distribution where it is missing, and gives it the appliance's
    /// agent where it has another.
    async fn install(&self) -> Result<(), MachineError> {
        let appliance = Appliance::open(&appliance::folder(&self.paths))?;
        let agent = appliance.digest(INITRAMFS)?;
        if self.record().is_some_and(|record| record.agent == agent) {
            return Ok(());
        }
        let _lock = self.lock().await?;
        match (self.row().await?, self.record()) {
            (_, Some(record)) if record.agent == agent => return Ok(()),
            (None, _) => self.import(&appliance).await?,
            (Some(row), _) if row.version == Some(1) => {
                return Err(MachineError::Failed(trouble::of_version_one(&self.name)));
            }
            (Some(_), _) => self.replace_agent(&appliance).await?,
        }
        self.write_record(&Record { agent, boot_ms: 0 })
    }

    async fn import(&self, appliance: &Appliance) -> Result<(), MachineError> {
        let (folder, tar) = (self.file("wsl2"), self.file("rootfs.tar"));
        fs::create_dir_all(&folder).map_err(MachineError::io("create", &folder))?;
        rootfs::write(&rootfs::agent(appliance)?, &tar).map_err(MachineError::io("write", &tar))?;
        let imported = self.run(command::import(&self.name, &folder, &tar)).await;
        // It is in the distribution now, or of no use.
        let _ = fs::remove_file(&tar);
        imported.map(drop)
    }

    async fn replace_agent(&self, appliance: &Appliance) -> Result<(), MachineError> {
        let agent = rootfs::agent(appliance)?;
        let mut child = self
            .wsl(&command::install(&self.name))?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why.
            let _ = stdin.write_all(&agent).await;
        }
        let done = child.wait_with_output().await;
        let done = done.map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        self.judge(
            done.status,
            &command::text(&[done.stdout, done.stderr].concat()),
        )
    }

    /// Has somebody hold the distribution, which starts it; returns how many
    /// milliseconds the start took.
    async fn make_ready(&self) -> Result<u64, MachineError> {
        let _alone = self.getting_ready.lock().await;
        if !self.ready.load(Ordering::Acquire) {
            self.install().await?;
            let begun = Instant::now();
            let held = match self.hold().await {
                // Removed behind our back.
                Err(MachineError::Failed(reason)) if trouble::is_gone(&reason) => {
                    self.forget_and_install().await?;
                    self.hold().await?
                }
                held => held?,
            };
            if held == Held::Booted {
                self.booted(begun.elapsed()).await?;
            }
            self.ready.store(true, Ordering::Release);
        }
        Ok(self.record().map_or(0, |record| record.boot_ms))
    }

    async fn forget_and_install(&self) -> Result<(), MachineError> {
        let record = self.file("wsl2.json");
        fs::remove_file(&record).map_err(MachineError::io("remove", &record))?;
        self.install().await
    }

    /// Starts a process that holds, unless another does.
    async fn hold(&self) -> Result<Held, MachineError> {
        let settings = Config::read(&self.paths.config());
        let idle = settings.ok().and_then(|config| config.machine.idle_stop);
        let mut child = self
            .wsl(&command::hold(&self.name, idle))?
            .stdout(Stdio::piped())
            .stderr(self.new_log()?)
            .spawn()
            .map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        let Some(stdout) = child.stdout.take() else {
            return Err(MachineError::Failed("wsl.exe says nothing".to_owned()));
        };
        let mut stdout = BufReader::new(stdout);
        let mut said = Vec::new();
        let line = tokio::time::timeout(PATIENCE, stdout.read_until(b'\n', &mut said)).await;
        let late = || {
            let reason = format!("the distribution {} does not start", self.name);
            MachineError::Failed(reason)
        };
        line.map_err(|_| late())?
            .map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        if let Some(held) = Held::from_line(&String::from_utf8_lossy(&said)) {
            return Ok(held);
        }
        let rest = stdout.read_to_end(&mut said);
        let _ = tokio::time::timeout(PATIENCE, rest).await;
        let complaints = fs::read(self.file("wsl2.log")).unwrap_or_default();
        said.extend(complaints);
        Err(MachineError::Failed(trouble::explain(
            &self.name,
            &command::text(&said),
        )))
    }

    /// What is said besides conversations; of the last start only.
    fn new_log(&self) -> Result<File, MachineError> {
        let path = self.file("wsl2.log");
        File::create(&path).map_err(MachineError::io("write", &path))
    }

    /// Starts and removes what a boot is to start and remove.
    async fn booted(&self, took: Duration) -> Result<(), MachineError> {
        if let Some(record) = self.record() {
            self.write_record(&Record {
                boot_ms: took.as_millis() as u64,
                ..record
            })?;
        }
        let now = SystemTime::now();
        let within = Self {
            ready: Arc::new(AtomicBool::new(true)),
            ..self.clone()
        };
        match revive::revive(&Engine::new(Arc::new(within)), now).await {
            Ok(failures) => failures.iter().for_each(|it| output::warning(it)),
            Err(error) => {
                let error = anyhow::Error::from(error);
                output::warning(&format!("after the boot: {error:#}"));
            }
        }
        Ok(())
    }

    fn connect(&self) -> Result<Pipe, MachineError> {
        let path = self.file("wsl2.log");
        let log = File::options().append(true).create(true).open(&path);
        let child = self
            .wsl(&command::serve(&self.name))?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.map_err(MachineError::io("write", &path))?)
            .spawn()
            .map_err(MachineError::io("run", Path::new("wsl.exe")))?;
        Pipe::new(child, Arc::clone(&self.ready))
            .ok_or_else(|| MachineError::Failed("wsl.exe has no streams".to_owned()))
    }
}

impl VirtualMachine for Wsl2 {
    fn start(&self) -> BoxFuture<'_, Result<u64, MachineError>> {
        self.make_ready().boxed()
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, MachineError>> {
        async move {
            let Some(record) = self.record() else {
                return Ok(MachineState::Stopped);
            };
            Ok(match self.is_up().await? {
                true => MachineState::Running {
                    pid: None,
                    accelerator: ACCELERATOR.to_owned(),
                    boot_ms: record.boot_ms,
                    shares: Vec::new(),
                },
                false => MachineState::Stopped,
            })
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<bool, MachineError>> {
        async move {
            if self.record().is_none() || !self.is_up().await? {
                return Ok(false);
            }
            // Containers are asked to end; what does not answer ends all the same.
            let asked = async {
                let dialed = Dialed {
                    stream: Box::new(self.connect()?),
                    token: None,
                };
                let conversation = Conversation::open(dialed, &Request::Shutdown).await;
                let _ = match conversation {
                    Ok(conversation) => conversation.reply().await.map(drop),
                    Err(error) => Err(error),
                };
                Ok::<_, MachineError>(())
            };
            let _ = tokio::time::timeout(PATIENCE, asked).await;
            self.run(command::terminate(&self.name)).await?;
            self.ready.store(false, Ordering::Release);
            Ok(true)
        }
        .boxed()
    }

    fn reset(&self) -> BoxFuture<'_, Result<bool, MachineError>> {
        async move {
            self.stop().await?;
            self.remove().await
        }
        .boxed()
    }

    fn log(&self, which: MachineLog) -> Result<PathBuf, MachineError> {
        match which {
            MachineLog::Programs => Ok(self.file("wsl2.log")),
            MachineLog::Console => Err(MachineError::Failed(
                "the kernel is the subsystem's, for all distributions; see what it says with: wsl --system dmesg".to_owned(),
            )),
        }
    }
}

impl Machine for Wsl2 {
    fn isolation(&self) -> Isolation {
        Isolation::Vm
    }

    fn dial(&self) -> BoxFuture<'_, Result<Dialed, MachineError>> {
        async move {
            if !self.ready.load(Ordering::Acquire) {
                self.make_ready().await?;
            }
            Ok(Dialed {
                stream: Box::new(self.connect()?),
                token: None,
            })
        }
        .boxed()
    }

    /// Windows is the distribution's gateway, and writes its servers, or who asks them for
    /// it, into the distribution.
    fn outside(&self) -> Outside {
        Outside {
            host: HostAddress::EnginesGateway,
            resolver: Resolver::Engines,
        }
    }

    fn share<'a>(
        &'a self,
        source: &'a Path,
        _read_only: bool,
        _word: Word,
    ) -> BoxFuture<'a, Result<BindSource, MachineError>> {
        let path = path::for_distribution(source, &self.name);
        let path = path.map_err(|error| MachineError::Failed(error.to_string()));
        std::future::ready(path.map(BindSource::Path)).boxed()
    }
}
