//! Creating a process with `clone3`, and what it does to itself on its way to
//! `execve`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::channel;

/// `CLONE_CLEAR_SIGHAND`: handlers of the parent are the default in the child.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP`: the child starts in the given cgroup v2 folder.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What the child's status is when its body panicked.
const PANIC_STATUS: i32 = 125;

/// A child, not waited for yet.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// Close-on-exec.
    pub pidfd: OwnedFd,
}

/// Forks: `body` runs in a child that has new `namespaces` and, where one is
/// given, starts in the cgroup v2 folder `cgroup`. What it returns is the
/// child's exit status; it normally ends in `execve` instead.
///
/// The child never returns into the caller's code: a panic ends in `_exit`,
/// and no exit handler runs (musl's deadlock after a raw `clone3`).
///
/// Fails with `EDEADLK` where the process has other threads, because their
/// locks would stay held in the child for ever; else as clone3(2).
pub fn fork_into(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    if !is_single_threaded()? {
        return Err(Errno::EDEADLK);
    }
    clone_into(namespaces, libc::SIGCHLD, cgroup, body)
}

/// Forks a child that is born in the PID namespace of the process behind `member`,
/// as [`fork_into`] does otherwise.
///
/// A process cannot go back to a PID namespace that belongs to a user namespace above
/// its own, so it is one in between that leaves, and has the child in its parent's name.
pub fn fork_beside(
    member: BorrowedFd<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    let (ours, theirs) = channel::pair()?;
    let between = fork_into(CloneFlags::empty(), None, || {
        let born = setns(member, CloneFlags::CLONE_NEWPID)
            .and_then(|()| clone_into(CloneFlags::CLONE_PARENT, 0, cgroup, body));
        let (number, descriptor) = match &born {
            Ok(child) => (child.pid.as_raw(), Some(child.pidfd.as_fd())),
            Err(errno) => (-(*errno as i32), None),
        };
        let told = channel::send(theirs.as_fd(), &number.to_ne_bytes(), descriptor);
        i32::from(told.is_err())
    })?;
    drop(theirs);
    let mut number = [0; 4];
    let received = channel::receive(ours.as_fd(), &mut number);
    let exited = || waitid(Id::PIDFd(between.pidfd.as_fd()), WaitPidFlag::WEXITED);
    while exited() == Err(Errno::EINTR) {}
    match (i32::from_ne_bytes(number), received?.descriptor) {
        (pid @ 1.., Some(pidfd)) => Ok(Child {
            pid: Pid::from_raw(pid),
            pidfd,
        }),
        (errno, _) => Err(Errno::from_raw(-errno)),
    }
}

/// As [`fork_into`], which tells `signal` at the child's end.
fn clone_into(
    flags: CloneFlags,
    signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    let mut pidfd: RawFd = -1;
    let mut arguments = clone_arguments(flags, signal, &mut pidfd);
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `arguments` is a valid clone_args whose pidfd points to a live
    // integer. Without CLONE_VM the child has a copy of the memory and stack,
    // and as the caller is the only thread (both callers see to it) no lock of the
    // copy is held by a thread that the child lacks.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match Errno::result(pid)? {
        0 => {
            let status = std::panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANIC_STATUS);
            exit_now(status)
        }
        pid => Ok(Child {
            pid: Pid::from_raw(pid as i32),
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new
            // descriptor that nothing else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

fn clone_arguments(flags: CloneFlags, signal: i32, pidfd: &mut RawFd) -> libc::clone_args {
    libc::clone_args {
        flags: flags.bits() as u32 as u64 | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: std::ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: signal as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    }
}

/// Whether the calling thread is the only one: `/proc/self/task` then has the
/// links `.`, `..`-of-it and one thread. One that has been joined is listed until the
/// kernel has cleared it away, which is waited for.
pub fn is_single_threaded() -> Result<bool, Errno> {
    const LOOKS: usize = 20;
    const A_LOOK: std::time::Duration = std::time::Duration::from_millis(1);
    for look in 1.. {
        if nix::sys::stat::stat(c"/proc/self/task")?.st_nlink == 3 {
            return Ok(true);
        }
        if look == LOOKS {
            break;
        }
        std::thread::sleep(A_LOOK);
    }
    Ok(false)
}

/// Ends the process at once, without exit handlers or flushing.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(status) }
}

/// A pidfd of a process (pidfd_open(2)), close-on-exec.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the call succeeded, so this is a new descriptor nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to the process behind a pidfd (pidfd_send_signal(2)).
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null siginfo asks for the default one; the rest are integers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// Gives every signal its default disposition and unblocks all of them. Also
/// for those that are ignored (SIGPIPE, in Rust programs), which `execve`
/// keeps, and for the two that C libraries keep to themselves.
pub fn reset_signals() -> Result<(), Errno> {
    const SIGNALS: i32 = 64;
    // The kernel's struct sigaction: handler SIG_DFL, no flags, empty mask.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: `default` is as large as the kernel's structure, and SIG_DFL
        // installs no handler. Fails for SIGKILL and SIGSTOP only, which
        // always have the default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Marks every descriptor from `first` on close-on-exec, or closes them.
/// `close` must only be asked for by a process about to `execve`: values that
/// own those descriptors are no longer valid.
pub fn close_range(first: RawFd, how: CloseRange) -> Result<(), Errno> {
    let flags = match how {
        CloseRange::OnExec => libc::CLOSE_RANGE_CLOEXEC,
        CloseRange::Now => 0,
    };
    // SAFETY: takes integers only. Nothing uses a closed descriptor
    // afterwards: the caller goes on to execve or _exit (documented above).
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    Errno::result(done).map(drop)
}

/// What [`close_range`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseRange {
    /// Mark them.
    OnExec,
    /// Close them.
    Now,
}

/// Makes `target` refer to what `source` does, without close-on-exec.
///
/// Meant for the fixed descriptor numbers 0 to 3 of a process about to
/// `execve`; what `target` was before is closed.
pub fn install_fd(source: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    if source.as_raw_fd() == target {
        let flags = nix::fcntl::FdFlag::empty();
        return nix::fcntl::fcntl(source, nix::fcntl::FcntlArg::F_SETFD(flags)).map(drop);
    }
    // SAFETY: takes integers only; the caller gives up whatever `target` was.
    Errno::result(unsafe { libc::dup2(source.as_raw_fd(), target) }).map(drop)
}

/// A copy of a descriptor as number `target`, close-on-exec; what that was
/// before is closed. For a process about to `execve`, like [`close_range`].
pub fn move_fd(source: BorrowedFd<'_>, target: RawFd) -> Result<OwnedFd, Errno> {
    if source.as_raw_fd() != target {
        // SAFETY: takes integers only; the caller gives up whatever `target` was.
        Errno::result(unsafe { libc::dup3(source.as_raw_fd(), target, libc::O_CLOEXEC) })?;
    }
    // SAFETY: `target` is open. Where it is the source itself, its other owner
    // is never dropped: the caller ends in execve or _exit (documented above).
    Ok(unsafe { OwnedFd::from_raw_fd(target) })
}

/// A copy of a descriptor, close-on-exec and above the three standard ones.
pub fn duplicate_above_stdio(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    duplicate_above(fd, 3)
}

/// A copy of a descriptor, close-on-exec, whose number is `least` at least.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd, Errno> {
    let copy = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: F_DUPFD_CLOEXEC returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Joins a new, empty session keyring, so that the keys of the caller's
/// session cannot be reached (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub fn join_new_session_keyring(name: &CStr) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    Errno::result(done).map(drop)
}

/// Sets the supplementary groups of the calling thread.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and length describe a live slice of gid_t. The raw
    // call changes this thread only, which is the only one.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(done).map(drop)
}

/// Sets the real, effective and saved group of the calling thread.
pub fn set_group(gid: u32) -> Result<(), Errno> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    Errno::result(done).map(drop)
}

/// Sets the real, effective and saved user of the calling thread.
pub fn set_user(uid: u32) -> Result<(), Errno> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_threaded_caller_is_refused() {
        // The test harness itself has at least two threads.
        let refused = fork_into(CloneFlags::empty(), None, || 0);
        assert_eq!(refused.map(|child| child.pid), Err(Errno::EDEADLK));
    }
}
