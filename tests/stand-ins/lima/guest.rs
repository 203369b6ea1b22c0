//! The guest: namespaces with an init, which provisions it at every boot.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use isolazi_tests::stand_in::{bind, bind_at, mount_kernels_own, private, root_at, share};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, chown, sethostname};

use crate::instance::Instance;
use crate::systemd;
use crate::template::{Provision, Template, expanded};

/// How its init is recognised, by itself and in `ps`.
pub(crate) const ROLE: &str = "lima-guest";
/// What it says when it has namespaces of its own, is told when they have a network, and
/// says when it is provisioned.
pub(crate) const ISOLATED: &[u8; 1] = b"i";
pub(crate) const CONNECTED: &[u8; 1] = b"c";
pub(crate) const PROVISIONED: &[u8; 1] = b"p";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the image brings: this machine's own programs.
const IMAGE: &[&str] = &["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/libexec"];
/// Folders of the disk that there are from the start.
const FOLDERS: &[&str] = &[
    "dev",
    "etc/systemd/system",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/local/sbin",
    "var/lib",
    "var/log",
    "var/tmp",
];

/// The argument is the instance's folder.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let folder = PathBuf::from(words.first().context("a folder")?);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let instance = Instance {
        name: String::new(),
        folder,
    };
    let template = instance.template()?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET,
    )?;
    sethostname("lima-isolazi")?;
    say(ISOLATED)?;
    let mut told = [0];
    io::stdin().read_exact(&mut told)?;
    ensure!(told == *CONNECTED, "not connected");
    isolazi_tests::network::ip(&["link", "set", "lo", "up"])?;
    arrange(&instance.file("disk"), &template)?;
    provision(&template)?;
    say(PROVISIONED)?;
    reap_until_shut_down()
}

fn say(what: &[u8; 1]) -> Result<()> {
    let mut output = io::stdout();
    output.write_all(what)?;
    output.flush()?;
    Ok(())
}

fn arrange(root: &Path, template: &Template) -> Result<()> {
    private()?;
    bind(root, root, MsFlags::empty())?;
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = root.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(format!("usr/{name}"), link)?;
        }
    }
    for path in IMAGE {
        let here = Path::new("/").join(path);
        if here.is_dir() {
            bind_at(&here, &root.join(path), MsFlags::MS_REC)?;
        }
    }
    for file in ["passwd", "group", "nsswitch.conf", "ld.so.cache"] {
        let _ = fs::copy(Path::new("/etc").join(file), root.join("etc").join(file));
    }
    fs::write(root.join("etc/resolv.conf"), "nameserver 192.168.5.3\n")?;
    mount_kernels_own(root)?;
    let control = root.join("usr/local/sbin").join(systemd::CONTROL);
    fs::write(&control, "")?;
    bind(&std::env::current_exe()?, &control, MsFlags::empty())?;
    for mount in &template.mounts {
        let point = root.join(mount.point().strip_prefix("/")?);
        bind_at(&mount.location, &point, MsFlags::empty())?;
        if !mount.writable {
            bind(&point, &point, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)?;
        }
    }
    root_at(root)?;
    // As systemd leaves them.
    share()?;
    Ok(())
}

fn provision(template: &Template) -> Result<()> {
    for (number, what) in template.provision.iter().enumerate() {
        match what {
            Provision::Data {
                path,
                content,
                owner,
                permissions,
            } => {
                ensure!(owner == "root:root", "no such owner: {owner}");
                let mode = u32::from_str_radix(permissions, 8)?;
                fs::create_dir_all(path.parent().context("a folder")?)?;
                fs::write(path, expanded(content)?)?;
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                chown(path, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
            }
            Provision::System { script } => {
                let file = PathBuf::from(format!("/run/provision-{number:08}"));
                fs::write(&file, expanded(script)?)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o700))?;
                // The script's own first line says who reads it.
                let ended = Command::new(&file)
                    .env_clear()
                    .env("PATH", PATH)
                    .stdin(Stdio::null())
                    .stdout(io::stderr())
                    .status()?;
                ensure!(ended.success(), "{}: {ended}", file.display());
            }
        }
    }
    Ok(())
}

/// As PID 1 does. When it returns, all other processes are killed.
fn reap_until_shut_down() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    loop {
        while !matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(_)
        ) {}
        if signals.wait()? == Signal::SIGTERM {
            return systemd::stop_all();
        }
    }
}
