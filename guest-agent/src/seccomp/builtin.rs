//! The profiles that come with isolazi, as the documents that they could be.
//!
//! | profile | known and harmless | known, reaching beyond the container | newer than the table |
//! | --- | --- | --- | --- |
//! | `default` | allowed | EPERM, unless a capability is for it | ENOSYS |
//! | `strict` | allowed where servers need it, else EPERM | EPERM | ENOSYS |
//! | `minimal` | allowed | EPERM for what is critical, unless a capability is for it | left to the kernel |
//!
//! An `int` is the lower half of a register, and what the upper one has is
//! nobody's business. Comparisons are of whole registers, so all of them here
//! are of masked ones: otherwise 2^32 + AF_VSOCK would be another family than
//! AF_VSOCK.

use std::collections::HashSet;

use nix::libc;

use super::calls::HERE;
use super::document::{Arg, Call, Document, Where};
use super::resolve::Action;
use super::table;

/// The flags of clone(2) that make namespaces.
pub(super) const NAMESPACE_FLAGS: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Address families that reach past the network namespace: the kernel's crypto
/// interface, and the way to the agent itself.
const DENIED_FAMILIES: [libc::c_int; 2] = [libc::AF_ALG, libc::AF_VSOCK];
/// All that servers and what a C library asks for them need; of netlink only
/// the protocol about addresses and routes.
const STRICT_FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Execution domains that ordinary programs ask for: Linux, Linux with the
/// uname(2) of 2.6, both with 32-bit addresses, and "tell me".
pub(super) const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];
const STRICT_PERSONALITIES: [u32; 2] = [0, u32::MAX];

/// The whole lower half of a register.
const INT: u32 = u32::MAX;

/// What a capability is worth little without.
const BY_CAPABILITY: [(&str, &[&str]); 13] = [
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "listmount",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "statmount",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_BOOT", &["reboot"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "finit_module", "init_module"],
    ),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["clock_adjtime", "clock_settime", "settimeofday"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// What reaches the kernel itself, or out of the container, and the
/// capabilities that are for it.
const CRITICAL: [(&[&str], &[&str]); 7] = [
    (
        &["CAP_SYS_ADMIN"],
        &[
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "pivot_root",
            "setns",
            "swapoff",
            "swapon",
            "umount2",
            "unshare",
        ],
    ),
    (
        &["CAP_SYS_BOOT"],
        &["kexec_file_load", "kexec_load", "reboot"],
    ),
    (
        &["CAP_SYS_MODULE"],
        &["delete_module", "finit_module", "init_module"],
    ),
    (&["CAP_SYS_TIME"], &["clock_settime", "settimeofday"]),
    (&["CAP_SYS_RAWIO"], &["ioperm", "iopl"]),
    (&["CAP_DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (
        &["CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"],
        &["bpf", "perf_event_open"],
    ),
];

pub(super) fn default() -> Document {
    // Of two rules about a call without conditions the first counts.
    let by_capability = BY_CAPABILITY.map(|(capability, names)| Call {
        includes: Some(caps(&[capability])),
        ..allow(names)
    });
    let mut rules = Vec::from(by_capability);
    rules.extend([allow(table::ALLOWED), newer()]);
    rules.extend(
        unless_any_of(&DENIED_FAMILIES).map(|(mask, value)| when("socket", &[(0, mask, value)])),
    );
    rules.push(without_namespaces());
    rules.extend(PERSONALITIES.map(|persona| when("personality", &[(0, INT, persona)])));
    document(Action::Errno(libc::EPERM as u16), rules)
}

pub(super) fn strict() -> Document {
    let mut rules = vec![allow(table::STRICT), newer(), without_namespaces()];
    let families = STRICT_FAMILIES.map(libc::c_int::cast_unsigned);
    rules.extend(families.map(|family| when("socket", &[(0, INT, family)])));
    let netlink = libc::AF_NETLINK.cast_unsigned();
    let route = libc::NETLINK_ROUTE.cast_unsigned();
    rules.push(when("socket", &[(0, INT, netlink), (2, INT, route)]));
    rules.extend(STRICT_PERSONALITIES.map(|persona| when("personality", &[(0, INT, persona)])));
    // Named pipes, and no other nodes.
    for (name, mode) in [("mknod", 1), ("mknodat", 2)] {
        rules.push(when(name, &[(mode, libc::S_IFMT, libc::S_IFIFO)]));
    }
    document(Action::Errno(libc::EPERM as u16), rules)
}

pub(super) fn minimal() -> Document {
    let eperm = Action::Errno(libc::EPERM as u16);
    let mut rules: Vec<Call> = CRITICAL
        .iter()
        .map(|(capabilities, names)| Call {
            excludes: Some(caps(capabilities)),
            ..call(names, eperm)
        })
        .collect();
    let admin = || Some(caps(&["CAP_SYS_ADMIN"]));
    for flag in NAMESPACE_FLAGS.map(libc::c_int::cast_unsigned) {
        rules.push(Call {
            args: Some(vec![equal(0, flag, flag)]),
            excludes: admin(),
            ..call(&["clone"], eperm)
        });
    }
    rules.push(Call {
        excludes: admin(),
        ..call(&["clone3"], Action::Errno(libc::ENOSYS as u16))
    });
    rules.push(Call {
        args: Some(vec![equal(0, INT, libc::AF_VSOCK.cast_unsigned())]),
        ..call(&["socket"], eperm)
    });
    document(Action::Allow, rules)
}

fn document(default: Action, rules: Vec<Call>) -> Document {
    Document {
        default_action: Some(default.name().to_owned()),
        default_errno_ret: default.errno(),
        syscalls: Some(rules),
        ..Document::default()
    }
}

/// ENOSYS for what the table does not know, and for `clone3`, whose arguments a
/// filter cannot see: it makes a C library use `clone`.
fn newer() -> Call {
    let limited: &[&str] = &["clone", "socket", "personality"];
    let known = [table::ALLOWED, table::DENIED, limited]
        .into_iter()
        .flatten();
    let known: HashSet<&str> = known.copied().collect();
    let all = HERE.native.calls().map(|(_, name)| name);
    let names: Vec<&str> = all.filter(|name| !known.contains(name)).collect();
    call(&names, Action::Errno(libc::ENOSYS as u16))
}

fn without_namespaces() -> Call {
    let flags = NAMESPACE_FLAGS
        .iter()
        .fold(0, |all, flag| all | flag.cast_unsigned());
    when("clone", &[(0, flags, 0)])
}

fn allow(names: &[&str]) -> Call {
    call(names, Action::Allow)
}

/// Allowed where the masked arguments are these.
fn when(name: &str, conditions: &[(u32, u32, u32)]) -> Call {
    let args = conditions
        .iter()
        .map(|&(index, mask, value)| equal(index, mask, value));
    Call {
        args: Some(args.collect()),
        ..allow(&[name])
    }
}

fn equal(index: u32, mask: u32, value: u32) -> Arg {
    Arg {
        index,
        value: u64::from(mask),
        value_two: Some(u64::from(value)),
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    }
}

fn call(names: &[&str], action: Action) -> Call {
    Call {
        names: Some(names.iter().map(|it| (*it).to_owned()).collect()),
        action: action.name().to_owned(),
        errno_ret: action.errno(),
        ..Call::default()
    }
}

fn caps(names: &[&str]) -> Where {
    Where {
        caps: Some(names.iter().map(|it| (*it).to_owned()).collect()),
        ..Where::default()
    }
}

/// Masks and values that together have every `int` but these, from small ones
/// up: aligned blocks, as large as can be.
fn unless_any_of(values: &[libc::c_int]) -> impl Iterator<Item = (u32, u32)> {
    let values: Vec<u32> = values.iter().map(|it| it.cast_unsigned()).collect();
    let mut next = Some(0_u32);
    std::iter::from_fn(move || {
        loop {
            let first = next?;
            let has_none = |bits: &u32| !values.iter().any(|it| it >> bits == first >> bits);
            let alignment = first.trailing_zeros().min(31);
            let bits = (0..=alignment).rev().find(has_none);
            next = first.checked_add(1 << bits.unwrap_or(0));
            if let Some(bits) = bits {
                return Some((u32::MAX << bits, first));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_everything_else() {
        let blocks: Vec<_> = unless_any_of(&[38, 40]).collect();
        assert_eq!(blocks[0], (!31, 0));
        let has = |value: u32| blocks.iter().any(|(mask, first)| value & mask == *first);
        for value in 0..70_000 {
            assert_eq!(has(value), value != 38 && value != 40, "{value}");
        }
        assert!(has(u32::MAX) && has(1 << 31) && has((1 << 31) + 40));
    }

    #[test]
    fn every_name_is_a_call_somewhere() {
        use super::super::calls::{AARCH64, X86_64};
        let critical = CRITICAL.iter().flat_map(|(_, names)| names.iter());
        let by_capability = BY_CAPABILITY.iter().flat_map(|(_, names)| names.iter());
        let tables = table::ALLOWED
            .iter()
            .chain(table::DENIED)
            .chain(table::STRICT);
        for name in tables.chain(critical).chain(by_capability) {
            let known = [&X86_64, &AARCH64].map(|it| it.number(name).is_some());
            assert!(known.contains(&true), "{name}");
        }
    }

    #[test]
    fn what_is_strict_is_allowed_by_default() {
        for name in table::STRICT {
            assert!(table::ALLOWED.contains(name), "{name}");
            assert!(!table::DENIED.contains(name), "{name}");
        }
        for name in table::DENIED {
            assert!(!table::ALLOWED.contains(name), "{name}");
        }
    }
}
