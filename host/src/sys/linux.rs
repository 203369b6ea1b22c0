//! What only Linux has.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The host's memory, in bytes (proc_meminfo(5)).
pub(crate) fn memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = total?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// A descriptor that means this process, whoever gets its id later
/// (pidfd_open(2)).
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let descriptor = nix::errno::Errno::result(result)? as i32;
    // SAFETY: a descriptor that has just been made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has the runtime tell when the descriptor becomes readable.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is open, and the same one, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Sends SIGKILL to the process that the descriptor means (pidfd_send_signal(2)).
pub(crate) fn pidfd_kill(process: &impl AsFd) -> io::Result<()> {
    let result = {
        let (descriptor, signal) = (process.as_fd().as_raw_fd(), nix::libc::SIGKILL);
        let no_info = std::ptr::null::<nix::libc::siginfo_t>();
        let call = nix::libc::SYS_pidfd_send_signal;
        // SAFETY: without a `siginfo_t` the call takes numbers only.
        unsafe { nix::libc::syscall(call, descriptor, signal, no_info, 0) }
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Has the kernel send SIGKILL to the command's process when the thread that
/// started it ends (PR_SET_PDEATHSIG, prctl(2)).
pub(crate) fn kill_with_parent(command: &mut tokio::process::Command) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        // It may have ended before the call above.
        match nix::unistd::getppid() == parent {
            true => Ok(()),
            false => Err(nix::errno::Errno::ESRCH.into()),
        }
    };
    // SAFETY: the closure makes two system calls and touches no memory that a
    // lock of the parent could guard, as a child of a fork must (fork(2)).
    unsafe { command.pre_exec(before_exec) };
}

/// Leaves descriptors open in the command's process, under their numbers here.
/// They are closed here with the command.
pub(crate) fn hand_down(command: &mut tokio::process::Command, descriptors: Vec<OwnedFd>) {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let before_exec = move || {
        for descriptor in &descriptors {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and touches no memory that a lock of
    // the parent could guard, as a child of a fork must (fork(2)).
    unsafe { command.pre_exec(before_exec) };
}

/// Has no later program of this process gain any capability (PR_CAPBSET_DROP,
/// capabilities(7)). Takes CAP_SETPCAP where the set is not empty.
pub(crate) fn empty_bounding_set() -> io::Result<()> {
    use nix::errno::Errno;
    use nix::libc::{PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl};
    for capability in 0_u64.. {
        // SAFETY: both calls take numbers only.
        let has = unsafe { prctl(PR_CAPBSET_READ, capability, 0, 0, 0) };
        match Errno::result(has) {
            // There are no more of them.
            Err(Errno::EINVAL) => break,
            Ok(0) => continue,
            other => other?,
        };
        // SAFETY: as above.
        Errno::result(unsafe { prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
    }
    Ok(())
}

/// Leaves this thread without any capability (capset(2)).
pub(crate) fn empty_capability_sets() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`, which has two words of each set.
    const VERSION: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION, 0];
    let sets = [0_u32; 6];
    // SAFETY: the header is a version and a process id, 0 for this thread; that
    // version reads three sets of two words each.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_capset, &raw const header, &raw const sets) };
    nix::errno::Errno::result(result)?;
    Ok(())
}
