//! What the programs that take others' places have in common: root file systems in
//! namespaces of their own, and processes that end with who has started them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Pid, chdir, pivot_root};

const NONE: Option<&str> = None;

/// `program`, which is killed with the thread that starts it.
pub fn dying_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The process whose id is kept in `file`, unless it has ended.
pub fn process_of(file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (!stat.contains(") Z ")).then_some(pid)
}

/// Mounts are this namespace's own from now on.
pub fn private() -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    Ok(())
}

/// What is mounted below a mount is seen in its copies from now on, and the other way round.
pub fn share() -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE)?;
    Ok(())
}

/// Shows `source` at `target`, which is there, or changes how.
pub fn bind(source: &Path, target: &Path, flags: MsFlags) -> io::Result<()> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND | flags, NONE)?;
    Ok(())
}

/// Shows the folder `source` at `target`, which is made if it is not there.
pub fn bind_at(source: &Path, target: &Path, flags: MsFlags) -> io::Result<()> {
    fs::create_dir_all(target)?;
    bind(source, target, flags)
}

/// `/proc`, `/sys`, `/dev` and `/run` of a system that has started.
pub fn mount_kernels_own(root: &Path) -> io::Result<()> {
    let fresh = |kind: &str, path: &str, options: Option<&str>| {
        mount(
            Some(kind),
            &root.join(path),
            Some(kind),
            MsFlags::empty(),
            options,
        )
    };
    fresh("proc", "proc", NONE)?;
    for shared in ["sys", "dev"] {
        bind(
            &Path::new("/").join(shared),
            &root.join(shared),
            MsFlags::MS_REC,
        )?;
    }
    fresh("tmpfs", "run", Some("mode=755"))?;
    Ok(())
}

/// Makes the mount `root` the root, and forgets the old one.
pub fn root_at(root: &Path) -> io::Result<()> {
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}
