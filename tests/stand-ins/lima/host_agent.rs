//! The process that keeps an instance running, as Lima's host agent does with vz: the
//! guest is its child and ends with it.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::stand_in::dying_with_us;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::guest;
use crate::instance::Instance;
use crate::template::{Forward, SocketForward};

/// How it is recognised, by itself and in `ps`.
pub(crate) const ROLE: &str = "lima-hostagent";
/// The event that limactl waits for (`pkg/hostagent/events`).
pub(crate) const RUNNING: &str = r#"{"status":{"running":true}}"#;
/// How long a guest may take to end its services.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// The argument is the instance's folder.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let folder = PathBuf::from(words.first().context("a folder")?);
    let name = folder.file_name().context("a name")?;
    let instance = Instance {
        name: name.to_string_lossy().into_owned(),
        folder: folder.clone(),
    };
    fs::write(instance.file("ha.pid"), std::process::id().to_string())?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    let mut guest = boot(&instance)?;
    for forward in instance.template()?.port_forwards {
        if let Forward::Socket(socket) = forward {
            listen(&socket, guest.id())?;
        }
    }
    // Before, a SIGINT ended everything at once, as there is nothing to lose in it.
    signals.thread_block()?;
    println!("{RUNNING}");
    loop {
        if guest.try_wait()?.is_some() {
            break;
        }
        if signals.wait()? == Signal::SIGINT {
            shut_down(&mut guest)?;
            break;
        }
    }
    let _ = fs::remove_file(instance.file("ha.pid"));
    println!(r#"{{"status":{{"exiting":true}}}}"#);
    Ok(())
}

/// A guest that is provisioned.
fn boot(instance: &Instance) -> Result<Child> {
    let serial = File::create(instance.file("serial.log"))?;
    // The child is the first in its PID namespace, and the only one of ours.
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let mut guest = Command::new(env::current_exe()?)
        .arg0(guest::ROLE)
        .arg(&instance.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(serial)
        .spawn()?;
    setns(own, CloneFlags::CLONE_NEWPID)?;
    let mut said = guest.stdout.take().context("its output")?;
    expect(&mut said, guest::ISOLATED, instance)?;
    connect(guest.id())?;
    let mut input = guest.stdin.take().context("its input")?;
    input.write_all(guest::CONNECTED)?;
    expect(&mut said, guest::PROVISIONED, instance)?;
    Ok(guest)
}

fn expect(said: &mut ChildStdout, wanted: &[u8; 1], instance: &Instance) -> Result<()> {
    let mut byte = [0];
    if said.read_exact(&mut byte).is_err() || byte != *wanted {
        let log = fs::read_to_string(instance.file("serial.log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        bail!("the guest does not boot: {last}");
    }
    Ok(())
}

/// Gives the guest a network by slirp4netns, whose host has the second address and
/// whose resolver has the third.
fn connect(guest: u32) -> Result<()> {
    let mut slirp = dying_with_us("slirp4netns")
        .args(["--configure", "--mtu=65520", "--cidr=192.168.5.0/24"])
        .args(["--ready-fd=1", &guest.to_string(), "eth0"])
        .stdout(Stdio::piped())
        .spawn()
        .context("slirp4netns")?;
    let mut ready = [0];
    let mut output = slirp.stdout.take().context("its output")?;
    let is_ready = output.read_exact(&mut ready).is_ok();
    ensure!(is_ready, "slirp4netns cannot connect the guest");
    Ok(())
}

/// Whoever connects on the host gets to the guest's socket.
fn listen(forward: &SocketForward, guest: u32) -> Result<()> {
    let there = forward.guest_socket.strip_prefix("/")?;
    let there = PathBuf::from(format!("/proc/{guest}/root")).join(there);
    if let Some(folder) = forward.host_socket.parent() {
        fs::create_dir_all(folder)?;
    }
    let _ = fs::remove_file(&forward.host_socket);
    let listener = UnixListener::bind(&forward.host_socket)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let there = there.clone();
            thread::spawn(move || relay(&stream, &there));
        }
    });
    Ok(())
}

/// Each direction ends by itself. Where nobody listens in the guest the connection ends.
fn relay(here: &UnixStream, there: &Path) {
    let Ok(there) = UnixStream::connect(there) else {
        return;
    };
    let copy = |mut from: &UnixStream, mut to: &UnixStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(here, &there));
        copy(&there, here);
    });
}

fn shut_down(guest: &mut Child) -> Result<()> {
    kill(Pid::from_raw(guest.id().cast_signed()), Signal::SIGTERM)?;
    let deadline = Instant::now() + SHUTDOWN;
    while guest.try_wait()?.is_none() {
        if Instant::now() > deadline {
            eprintln!("the guest does not shut down");
            guest.kill()?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
