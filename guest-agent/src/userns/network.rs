//! What connects the network namespace to the host's network: pasta, or else
//! slirp4netns, which need no privileges. Without them there is loopback only.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;

use super::folder;
use super::make::find;
use super::record::Process;

/// What came of it.
pub(super) struct Network {
    /// The process to end with the namespaces.
    pub(super) process: Option<Process>,
    /// What the user should know.
    pub(super) note: Option<String>,
}

/// Connects the namespaces of `holder`. To be called from outside.
pub(super) fn connect(root: &Path, holder: Pid) -> Network {
    let connected = match (find("pasta"), find("slirp4netns")) {
        (Some(pasta), _) => run_pasta(&pasta, root, holder),
        (None, Some(slirp)) => run_slirp(&slirp, holder),
        (None, None) => Err(
            "install pasta or slirp4netns (Debian, Ubuntu: apt-get install passt) to have it"
                .to_owned(),
        ),
    };
    match connected {
        Ok(process) => Network {
            process: Some(process),
            note: None,
        },
        Err(why) => Network {
            process: None,
            note: Some(format!("containers have no network but loopback: {why}")),
        },
    }
}

/// It goes to the background when it is ready, and writes its id to a file.
fn run_pasta(program: &Path, root: &Path, holder: Pid) -> Result<Process, String> {
    let file = folder(root).join("pasta.pid");
    let ran = Command::new(program)
        .args(["--config-net", "--quiet", "--no-map-gw"])
        // What listens in here is nobody else's business.
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
        .arg("--pid")
        .arg(&file)
        .arg("--userns")
        .arg(format!("/proc/{holder}/ns/user"))
        .arg("--netns")
        .arg(format!("/proc/{holder}/ns/net"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("pasta cannot be run: {error}"))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        let said = said.lines().last().unwrap_or("it does not say why").trim();
        return Err(format!("pasta failed ({said})"));
    }
    let pid = fs::read_to_string(&file).ok();
    let pid = pid.and_then(|text| text.trim().parse().ok());
    let process = pid.and_then(Process::of);
    process.ok_or_else(|| "pasta ended at once".to_owned())
}

/// It stays in the foreground, and writes a byte when it is ready.
fn run_slirp(program: &Path, holder: Pid) -> Result<Process, String> {
    let mut slirp = Command::new(program)
        .args(["--configure", "--mtu=65520", "--disable-host-loopback"])
        .args(["--ready-fd=1", "--netns-type=path"])
        .arg(format!("--userns-path=/proc/{holder}/ns/user"))
        .arg(format!("/proc/{holder}/ns/net"))
        .arg("tap0")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("slirp4netns cannot be run: {error}"))?;
    let mut byte = [0];
    let ready = slirp.stdout.take().map(|mut it| it.read(&mut byte));
    if !matches!(ready, Some(Ok(1))) {
        let _ = slirp.kill();
        let _ = slirp.wait();
        return Err("slirp4netns failed".to_owned());
    }
    Process::of(slirp.id().cast_signed()).ok_or_else(|| "slirp4netns ended at once".to_owned())
}
