//! The profile's answers, by running its programs the way the kernel does.

use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const FOREIGN_ARCH: u32 = 0x4000_0003;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

use super::refusal as refused;

/// One `struct seccomp_data`, as 32-bit words.
fn data(arch: u32, call: i64, argument: u64) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = call as u32;
    words[1] = arch;
    words[4] = argument as u32;
    words[5] = (argument >> 32) as u32;
    words
}

/// Classic BPF, as far as filters use it (bpf(4)).
fn run(program: &SeccompProgram, data: &[u32; 16]) -> u32 {
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = program.0[at];
        let (code, k) = (
            u16::from_ne_bytes([c0, c1]),
            u32::from_ne_bytes([k0, k1, k2, k3]),
        );
        at += 1;
        let taken = match code {
            0x20 => {
                a = data[k as usize / 4];
                continue;
            }
            0x54 => {
                a &= k;
                continue;
            }
            0x06 => return k,
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            0x45 => a & k != 0,
            other => panic!("instruction {other:#x} is not used by filters"),
        };
        at += usize::from(if taken { jt } else { jf });
    }
}

/// A program's answer to a call without arguments.
pub(super) fn run_number(program: &SeccompProgram, call: i64) -> u32 {
    run(program, &data(ARCH, call, 0))
}

/// The strictest answer, of which equal ones are decided by the newest program.
fn answer(arch: u32, call: i64, argument: u64) -> u32 {
    let strictness = |action: u32| (action & libc::SECCOMP_RET_ACTION_FULL).cast_signed();
    let data = data(arch, call, argument);
    let programs = default_profile().unwrap();
    let answers = programs.iter().rev().map(|program| run(program, &data));
    answers.min_by_key(|&action| strictness(action)).unwrap()
}

#[test]
fn what_is_dangerous_is_refused() {
    for call in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_ptrace,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_pivot_root,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_open_by_handle_at,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_userfaultfd,
        libc::SYS_process_vm_readv,
        libc::SYS_open_tree,
    ] {
        assert_eq!(answer(ARCH, call, 0), refused(libc::EPERM), "call {call}");
    }
}

#[test]
fn what_ordinary_software_needs_is_allowed() {
    for call in [
        libc::SYS_read,
        libc::SYS_execve,
        libc::SYS_clone,
        libc::SYS_socket,
        libc::SYS_futex,
        libc::SYS_chroot,
        libc::SYS_rseq,
        libc::SYS_statx,
        libc::SYS_close_range,
        libc::SYS_memfd_create,
    ] {
        assert_eq!(answer(ARCH, call, 0), ALLOW, "call {call}");
    }
}

#[test]
fn what_the_table_does_not_know_is_as_if_the_kernel_did_not() {
    for call in [libc::SYS_clone3, 1000, 0x3fff_ffff, 0xffff_ffff] {
        assert_eq!(answer(ARCH, call, 0), refused(libc::ENOSYS), "call {call}");
    }
}

#[test]
fn clone_makes_processes_and_threads_but_no_namespaces() {
    let clone = |flags: i32| answer(ARCH, libc::SYS_clone, u64::from(flags.cast_unsigned()));
    assert_eq!(clone(libc::SIGCHLD), ALLOW);
    assert_eq!(
        clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND),
        ALLOW
    );
    for flag in NAMESPACE_FLAGS {
        assert_eq!(clone(flag | libc::SIGCHLD), refused(libc::EPERM));
    }
}

#[test]
fn two_address_families_are_refused_whatever_is_in_the_upper_half() {
    for family in 0..=45_u64 {
        let expected = match family {
            38 | 40 => refused(libc::EPERM),
            _ => ALLOW,
        };
        assert_eq!(
            answer(ARCH, libc::SYS_socket, family),
            expected,
            "family {family}"
        );
        let garbage = family | 0xdead_0000_0000_0000;
        assert_eq!(
            answer(ARCH, libc::SYS_socket, garbage),
            expected,
            "family {family}"
        );
    }
}

#[test]
fn only_common_personalities_are_allowed() {
    for persona in PERSONALITIES {
        assert_eq!(answer(ARCH, libc::SYS_personality, persona), ALLOW);
    }
    let no_randomization = 0x004_0000;
    assert_eq!(
        answer(ARCH, libc::SYS_personality, no_randomization),
        refused(libc::EPERM)
    );
}

#[test]
fn foreign_calls_are_killed() {
    assert_eq!(answer(FOREIGN_ARCH, 1, 0), KILL);
    #[cfg(target_arch = "x86_64")]
    for call in [0x4000_0000 | libc::SYS_read, 0x4000_0000 | 547] {
        assert_eq!(answer(ARCH, call, 0), KILL);
    }
}

#[test]
fn no_call_is_both_allowed_and_denied() {
    let allowed = table::ALLOWED.concat();
    for call in table::DENIED.concat() {
        assert!(!allowed.contains(&call), "call {call}");
    }
}
