//! A distribution that runs: namespaces with an init, and a monitor outside that
//! ends them when nobody is attached any more.
//!
//! ```text
//!  wsl.exe ─ spawns ─► monitor ─ unshare(pid) ─► init: mounts, pivot_root, reaps
//!     └─ setns ─► PROGRAM                          ▲
//!            monitor kills it when idle ───────────┘
//! ```

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use isolazi_tests::stand_in::{bind, bind_at, mount_kernels_own, private, root_at};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::sethostname;

use crate::distribution::{Distribution, Store};
use crate::say::Failure;

/// How the monitor and the init are recognised, by themselves and in `ps`.
pub(crate) const MONITOR: &str = "wsl-monitor";
pub(crate) const INIT: &str = "wsl-init";

/// What a distribution that nobody is attached to lives on for, in milliseconds;
/// 15 s with the real one.
const IDLE: &str = "ISOLAZI_STAND_IN_WSL_IDLE";
const IDLE_BY_DEFAULT: u64 = 3_000;
/// Drives, `LETTER=FOLDER` each and a semicolon in between.
const DRIVES: &str = "ISOLAZI_STAND_IN_WSL_DRIVES";
const TICK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a program in the distribution, which is started where it does not run.
pub(crate) fn run(
    distribution: &Distribution,
    user: &str,
    program: &[String],
) -> Result<ExitCode, Failure> {
    let users = fs::read_to_string(distribution.rootfs()?.join("etc/passwd"));
    let is_user = |line: &str| line.split(':').next() == Some(user);
    if !users.unwrap_or_default().lines().any(is_user) || user != "root" {
        return Err(Failure::User);
    }
    let attached = distribution.lock_file("attached")?;
    attached.lock_shared().map_err(Failure::io("attached"))?;
    start(distribution)?;
    enter(distribution)?;
    let (program, arguments) = (&program[0], &program[1..]);
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("WSL_DISTRO_NAME", distribution.name());
    // SAFETY: the closure makes two system calls and touches no memory.
    unsafe {
        command.pre_exec(|| {
            // nohup(1) around the tests is nothing that a distribution knows of.
            signal(Signal::SIGHUP, SigHandler::SigDfl)?;
            Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGHUP)?)
        });
    }
    let Ok(mut child) = command.spawn() else {
        crate::say::print(&format!("execvpe({program}) failed: No such file\n"));
        return Ok(ExitCode::from(1));
    };
    // Ours are open as long as we are, and a reader waits for the end of all.
    let status = child.wait().map_err(Failure::io(program))?;
    Ok(ExitCode::from(status_of(status)))
}

fn status_of(status: ExitStatus) -> u8 {
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(255) as u8
}

/// Starts a monitor unless there is one, and waits for its init.
fn start(distribution: &Distribution) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !distribution.is_running()? {
        if distribution.lock_file("alive")?.try_lock().is_ok() {
            let own = env::current_exe().map_err(Failure::io("own program"))?;
            let mut monitor = Command::new(own);
            monitor.arg0(MONITOR).arg(distribution.name());
            monitor.stdin(Stdio::null()).stdout(Stdio::null());
            monitor.stderr(Stdio::null()).process_group(0);
            monitor.spawn().map_err(Failure::io("monitor"))?;
        }
        if Instant::now() > deadline {
            return Err(Failure::Io("the distribution does not start".to_owned()));
        }
        sleep(TICK);
    }
    Ok(())
}

/// Goes where the distribution's PID 1 is. Children are in its PID namespace, too.
fn enter(distribution: &Distribution) -> Result<(), Failure> {
    let init = distribution.init().ok_or(Failure::NotFound)?;
    let namespace = |kind: &str| {
        let path = format!("/proc/{init}/ns/{kind}");
        File::open(&path).map_err(Failure::io(path))
    };
    let wanted = [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let opened = wanted.map(|(kind, flag)| namespace(kind).map(|file| (file, flag)));
    for entry in opened {
        let (file, flag) = entry?;
        setns(file, flag)?;
    }
    Ok(())
}

/// Lives as long as the distribution does. The argument is its name.
pub(crate) fn monitor(words: &[String]) -> Result<ExitCode, Failure> {
    let name = words.first().ok_or(Failure::NotFound)?;
    let distribution = Store::open()?.find(name)?;
    let alive = distribution.lock_file("alive")?;
    if alive.try_lock().is_err() {
        return Ok(ExitCode::SUCCESS);
    }
    let _ = fs::remove_file(distribution.file("init"));
    unshare(CloneFlags::CLONE_NEWPID)?;
    let own = env::current_exe().map_err(Failure::io("own program"))?;
    let mut init = Command::new(own)
        .arg0(INIT)
        .arg(distribution.rootfs()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::io("init"))?;
    let mut ready = [0];
    let mut stdout = init.stdout.take().ok_or(Failure::Argument)?;
    stdout.read_exact(&mut ready).map_err(Failure::io("init"))?;
    let pid = distribution.file("init");
    fs::write(&pid, init.id().to_string()).map_err(Failure::io(pid.display()))?;
    let attached = distribution.lock_file("attached")?;
    let mut since = Instant::now();
    loop {
        if init.try_wait().map_err(Failure::io("init"))?.is_some() {
            break;
        }
        if attached.try_lock().is_err() {
            since = Instant::now();
        } else if since.elapsed() > idle() {
            // The lock is kept, so that nobody comes in any more.
            let _ = init.kill();
            let _ = init.wait();
            break;
        } else {
            let _ = attached.unlock();
        }
        sleep(TICK);
    }
    let _ = fs::remove_file(&pid);
    Ok(ExitCode::SUCCESS)
}

fn idle() -> Duration {
    let said = env::var(IDLE).ok().and_then(|text| text.parse().ok());
    Duration::from_millis(said.unwrap_or(IDLE_BY_DEFAULT))
}

/// PID 1 of the distribution. The argument is its root file system.
pub(crate) fn init(words: &[String]) -> Result<ExitCode, Failure> {
    let root = Path::new(words.first().ok_or(Failure::NotFound)?);
    // It does not outlive its monitor.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    sethostname("windows")?;
    arrange(root).map_err(Failure::io(root.display()))?;
    let mut stdout = io::stdout();
    stdout
        .write_all(b"!")
        .and_then(|()| stdout.flush())
        .map_err(Failure::io("stdout"))?;
    let nowhere = File::options().write(true).open("/dev/null");
    nix::unistd::dup2_stdout(nowhere.map_err(Failure::io("/dev/null"))?)?;
    loop {
        if waitpid(None, None).is_err() {
            sleep(TICK);
        }
    }
}

/// Mounts what the real one does, and makes `root` the root.
fn arrange(root: &Path) -> io::Result<()> {
    private()?;
    bind(root, root, MsFlags::empty())?;
    let resolv_conf = fs::read("/etc/resolv.conf").unwrap_or_default();
    let _ = fs::write(root.join("etc/resolv.conf"), resolv_conf);
    mount_kernels_own(root)?;
    let temporary = env::temp_dir();
    let target = root.join(temporary.strip_prefix("/").unwrap_or(&temporary));
    bind_at(&temporary, &target, MsFlags::empty())?;
    for drive in env::var(DRIVES).unwrap_or_default().split(';') {
        if let Some((letter, folder)) = drive.split_once('=') {
            let target = root.join("mnt").join(letter);
            bind_at(Path::new(folder), &target, MsFlags::empty())?;
        }
    }
    root_at(root)
}
