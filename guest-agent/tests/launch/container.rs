//! Builds and runs the containers of the tests.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use isolazi_agent::launch::plan::{
    BindPlan, CgroupPlan, EtcFile, LaunchPlan, NetworkPlan, RootfsPlan, Settings,
};
use isolazi_agent::launch::{LaunchError, Launched, NetworkNamespace, Stdio, cleanup, exec, start};
use isolazi_protocol::{ContainerId, ExecSpec, ProcessSpec, WindowSize};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

pub(crate) const BUSYBOX: &str = "/bin/busybox";

const APPLETS: [&str; 22] = [
    "sh", "cat", "ls", "id", "hostname", "grep", "mount", "mkdir", "touch", "readlink", "pwd",
    "stat", "sleep", "true", "tty", "stty", "env", "umask", "wc", "ps", "echo", "chroot",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web\n";

/// A container to be, with its files in a temporary folder.
pub(crate) struct Container {
    folder: tempfile::TempDir,
    pub(crate) plan: LaunchPlan,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) warnings: Vec<String>,
}

impl Container {
    /// Busybox on one layer, and no command yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["layer", "upper", "work", "root"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        // The container's root takes its mode from here.
        let upper = folder.path().join("upper");
        std::fs::set_permissions(upper, PermissionsExt::from_mode(0o755)).unwrap();
        fill(&folder.path().join("layer"));
        let plan = plan(folder.path());
        Self { folder, plan }
    }

    /// Runs `script` in a shell.
    pub(crate) fn shell(script: &str) -> Self {
        Self::new().command(&["/bin/sh", "-c", script])
    }

    pub(crate) fn command(mut self, args: &[&str]) -> Self {
        self.plan.process.args = owned(args);
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.plan.process.user);
        self
    }

    pub(crate) fn cwd(mut self, cwd: &str) -> Self {
        cwd.clone_into(&mut self.plan.process.cwd);
        self
    }

    pub(crate) fn env(mut self, variables: &[&str]) -> Self {
        self.plan.process.env = owned(variables);
        self
    }

    pub(crate) fn bind(mut self, source: &Path, target: &str, read_only: bool) -> Self {
        self.plan.binds.push(BindPlan {
            source: source.to_owned(),
            target: target.into(),
            read_only,
            propagation: Default::default(),
            recursion: Default::default(),
        });
        self
    }

    pub(crate) fn etc(mut self, name: &str, content: &str) -> Self {
        let source = self.scratch(name);
        std::fs::write(&source, content).unwrap();
        let name = name.to_owned();
        self.plan.etc.push(EtcFile { source, name });
        self
    }

    /// The image's folder.
    pub(crate) fn layer(&self) -> PathBuf {
        self.folder.path().join("layer")
    }

    /// Where the container's changes are.
    pub(crate) fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }

    /// A path beside the container's own folders.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it with pipes.
    pub(crate) fn start(&self) -> Result<Running<'_>, LaunchError> {
        let (stdio, streams) = pipes();
        let launched = start(&self.plan, stdio, NetworkNamespace::New)?;
        Ok(Running {
            container: self,
            launched,
            streams: Some(streams),
        })
    }

    /// Starts it with a terminal.
    pub(crate) fn start_on_terminal(&self) -> Running<'_> {
        let size = WindowSize {
            rows: 33,
            columns: 99,
        };
        Running {
            container: self,
            launched: start(&self.plan, Stdio::Terminal(size), NetworkNamespace::New).unwrap(),
            streams: None,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self) -> Output {
        match self.start() {
            Ok(running) => running.finish(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs it, which must fail.
    #[track_caller]
    pub(crate) fn refused(&self) -> LaunchError {
        self.start().map(|_| "it started").unwrap_err()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let left = cleanup(&self.plan);
        assert!(left.is_empty() || std::thread::panicking(), "{left:?}");
    }
}

/// A process that runs.
pub(crate) struct Running<'a> {
    container: &'a Container,
    pub(crate) launched: Launched,
    streams: Option<[File; 2]>,
}

impl Running<'_> {
    /// Starts a further process beside it.
    pub(crate) fn exec(&self, spec: &ExecSpec) -> Result<Running<'_>, LaunchError> {
        let (stdio, streams) = pipes();
        Ok(Running {
            container: self.container,
            launched: self.exec_with(spec, stdio)?,
            streams: Some(streams),
        })
    }

    pub(crate) fn exec_on_terminal(&self, spec: &ExecSpec) -> Running<'_> {
        let size = WindowSize {
            rows: 20,
            columns: 50,
        };
        Running {
            container: self.container,
            launched: self.exec_with(spec, Stdio::Terminal(size)).unwrap(),
            streams: None,
        }
    }

    fn exec_with(&self, spec: &ExecSpec, stdio: Stdio) -> Result<Launched, LaunchError> {
        let init = &self.launched;
        exec(
            &self.container.plan,
            spec,
            init.pid,
            init.pidfd.as_fd(),
            stdio,
        )
    }

    /// Its output to the end, and its exit code.
    pub(crate) fn finish(mut self) -> Output {
        let (stdout, stderr) = match &mut self.streams {
            Some([stdout, stderr]) => (read(stdout), read(stderr)),
            None => (self.read_terminal(), String::new()),
        };
        Output {
            code: self.wait(),
            stdout,
            stderr,
            warnings: std::mem::take(&mut self.launched.warnings),
        }
    }

    /// Ends it.
    pub(crate) fn kill(self) -> i32 {
        nix::sys::signal::kill(self.launched.pid, nix::sys::signal::SIGKILL).unwrap();
        self.wait()
    }

    fn wait(&self) -> i32 {
        let id = Id::PIDFd(self.launched.pidfd.as_fd());
        match waitid(id, WaitPidFlag::WEXITED).unwrap() {
            WaitStatus::Exited(pid, code) => {
                assert_eq!(pid, self.launched.pid);
                code
            }
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            other => panic!("{other:?}"),
        }
    }

    fn read_terminal(&mut self) -> String {
        let console = self.launched.console.take().expect("a console");
        let mut text = Vec::new();
        // A terminal whose other end is closed reads as EIO.
        let _ = File::from(console).read_to_end(&mut text);
        String::from_utf8_lossy(&text).replace("\r\n", "\n")
    }
}

/// A command to `exec`.
pub(crate) fn spec(args: &[&str]) -> ExecSpec {
    ExecSpec {
        args: owned(args),
        env: Vec::new(),
        cwd: None,
        user: None,
        terminal: None,
        open_stdin: false,
        privileged: false,
    }
}

fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Standard streams, and the other ends of the two outputs.
fn pipes() -> (Stdio, [File; 2]) {
    let stdin: OwnedFd = File::open("/dev/null").unwrap().into();
    let (out_end, stdout) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let (err_end, stderr) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let stdio = Stdio::Pipes {
        stdin,
        stdout,
        stderr,
    };
    (stdio, [out_end.into(), err_end.into()])
}

fn fill(layer: &Path) {
    for name in ["bin", "etc", "proc", "dev", "sys", "tmp", "root"] {
        std::fs::create_dir(layer.join(name)).unwrap();
    }
    std::fs::copy(BUSYBOX, layer.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(layer.join("etc/group"), GROUP).unwrap();
}

fn plan(folder: &Path) -> LaunchPlan {
    let mut random = [0; 32];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut random)
        .unwrap();
    let id = ContainerId::from_random(&random);
    LaunchPlan {
        network: NetworkPlan::default(),
        settings: Settings::default(),
        hostname: "box".to_owned(),
        rootfs: RootfsPlan {
            lower: vec![folder.join("layer")],
            upper: folder.join("upper"),
            work: folder.join("work"),
            mount_point: folder.join("root"),
        },
        etc: Vec::new(),
        binds: Vec::new(),
        process: ProcessSpec {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            terminal: None,
            open_stdin: false,
        },
        seccomp: isolazi_agent::seccomp::default_profile().unwrap(),
        cgroup: CgroupPlan {
            slice: None,
            unscoped: None,
            path: format!("isolazi/{id}"),
            pids_limit: 64,
            limits: Default::default(),
            devices: Default::default(),
        },
        id,
    }
}

fn owned(strings: &[&str]) -> Vec<String> {
    strings.iter().map(|it| (*it).to_owned()).collect()
}

/// Three descriptors of `/dev/null`.
pub(crate) fn null_streams() -> (OwnedFd, OwnedFd, OwnedFd) {
    let null = || {
        OwnedFd::from(
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap(),
        )
    };
    (null(), null(), null())
}
