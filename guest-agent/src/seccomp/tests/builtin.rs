//! The profiles that are built in.

use serde_json::json;

use super::super::builtin::{NAMESPACE_FLAGS, PERSONALITIES};
use super::*;

use SeccompProfile::{Default as Standard, Minimal, Strict};

#[test]
fn what_is_dangerous_is_refused() {
    for name in [
        "mount",
        "umount2",
        "ptrace",
        "kexec_load",
        "kexec_file_load",
        "reboot",
        "init_module",
        "finit_module",
        "delete_module",
        "settimeofday",
        "clock_settime",
        "sethostname",
        "setdomainname",
        "pivot_root",
        "bpf",
        "perf_event_open",
        "setns",
        "unshare",
        "open_by_handle_at",
        "io_uring_setup",
        "keyctl",
        "userfaultfd",
        "process_vm_readv",
        "open_tree",
    ] {
        for profile in [Standard, Strict] {
            assert_eq!(
                answer(&profile, made(name, &[])),
                EPERM,
                "{name} {profile:?}"
            );
        }
    }
}

#[test]
fn minimal_refuses_what_is_critical_and_nothing_else() {
    for name in [
        "mount",
        "umount2",
        "kexec_load",
        "reboot",
        "init_module",
        "settimeofday",
        "pivot_root",
        "bpf",
        "setns",
        "unshare",
        "open_by_handle_at",
        "open_tree",
    ] {
        assert_eq!(answer(&Minimal, made(name, &[])), EPERM, "{name}");
    }
    for name in [
        "ptrace",
        "keyctl",
        "io_uring_setup",
        "userfaultfd",
        "read",
        "chroot",
    ] {
        assert_eq!(answer(&Minimal, made(name, &[])), ALLOW, "{name}");
    }
    assert_eq!(answer(&Minimal, numbered(1000, &[])), ALLOW);
}

#[test]
fn what_ordinary_software_needs_is_allowed() {
    for profile in &ALL {
        for name in [
            "read",
            "execve",
            "execveat",
            "clone",
            "futex",
            "rseq",
            "statx",
            "close_range",
            "memfd_create",
            "sendmsg",
            "exit_group",
            "shmget",
            "setitimer",
        ] {
            assert_eq!(
                answer(profile, made(name, &[])),
                ALLOW,
                "{name} {profile:?}"
            );
        }
        assert_eq!(answer(profile, made("socket", &[2])), ALLOW);
    }
    assert_eq!(answer(&Standard, made("chroot", &[])), ALLOW);
    assert_eq!(answer(&Strict, made("chroot", &[])), EPERM);
}

#[test]
fn what_the_table_does_not_know_is_as_if_the_kernel_did_not() {
    for profile in [Standard, Strict] {
        for number in [1000, 0x3fff_ffff, 0xffff_ffff] {
            assert_eq!(answer(&profile, numbered(number, &[])), ENOSYS, "{number}");
        }
        for name in ["clone3", "setxattrat", "open_tree_attr"] {
            assert_eq!(answer(&profile, made(name, &[])), ENOSYS, "{name}");
        }
    }
    assert_eq!(answer(&Minimal, made("clone3", &[])), ENOSYS);
}

#[test]
fn clone_makes_processes_and_threads_but_no_namespaces() {
    for profile in &ALL {
        let clone =
            |flags: i32| answer(profile, made("clone", &[u64::from(flags.cast_unsigned())]));
        assert_eq!(clone(libc::SIGCHLD), ALLOW);
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert_eq!(clone(thread), ALLOW);
        for flag in NAMESPACE_FLAGS {
            assert_eq!(clone(flag | libc::SIGCHLD), EPERM);
        }
    }
}

#[test]
fn families_are_refused_whatever_is_in_the_upper_half() {
    for family in (0..=46_u64).chain([100, 0xffff_ffff]) {
        let answers = [
            (Standard, !matches!(family, 38 | 40)),
            (Minimal, family != 40),
            (Strict, matches!(family, 1 | 2 | 10 | 16)),
        ];
        for (profile, allowed) in answers {
            let expected = if allowed { ALLOW } else { EPERM };
            for garbage in [0, 0xdead_0000_0000_0000, 0x1_0000_0000] {
                let found = answer(&profile, made("socket", &[family | garbage]));
                assert_eq!(found, expected, "family {family} {profile:?}");
            }
        }
    }
    // Of netlink, addresses and routes only.
    assert_eq!(answer(&Strict, made("socket", &[16, 3, 9])), EPERM);
}

#[test]
fn only_common_personalities_are_allowed() {
    for persona in PERSONALITIES {
        assert_eq!(
            answer(&Standard, made("personality", &[u64::from(persona)])),
            ALLOW
        );
    }
    let no_randomization = 0x004_0000;
    assert_eq!(
        answer(&Standard, made("personality", &[no_randomization])),
        EPERM
    );
    assert_eq!(answer(&Strict, made("personality", &[8])), EPERM);
    assert_eq!(answer(&Strict, made("personality", &[0xffff_ffff])), ALLOW);
}

#[test]
fn strict_makes_named_pipes_and_no_other_nodes() {
    let mknodat = |mode: u32| answer(&Strict, made("mknodat", &[0, 0, u64::from(mode)]));
    assert_eq!(mknodat(libc::S_IFIFO | 0o644), ALLOW);
    assert_eq!(mknodat(libc::S_IFCHR | 0o644), EPERM);
    assert_eq!(mknodat(libc::S_IFBLK), EPERM);
}

#[test]
fn foreign_calls_are_killed() {
    for profile in &ALL {
        let program = compiled(profile);
        let foreign = Made {
            arch: HERE.foreign.audit,
            ..numbered(1, &[])
        };
        assert_eq!(run(&program, &foreign), KILL);
        if HERE.native.has_x32 {
            for number in [0x4000_0000, 0x4000_0000 | 547, 0x7fff_ffff] {
                assert_eq!(run(&program, &numbered(number, &[])), KILL);
            }
        }
    }
}

#[test]
fn a_capability_brings_its_calls() {
    let with = |caps: &[u8], profile: &SeccompProfile, name: &str| {
        let granted = Granted {
            caps: CapabilitySet::of(caps),
            kernel: (6, 12),
        };
        run(
            &programs(profile, &granted).unwrap()[0],
            &made(name, &[0x1000_0000]),
        )
    };
    for (number, name) in [
        (19, "ptrace"),
        (21, "mount"),
        (21, "unshare"),
        (21, "clone"),
        (21, "clone3"),
        (22, "reboot"),
        (16, "init_module"),
        (25, "settimeofday"),
        (39, "bpf"),
        (2, "open_by_handle_at"),
    ] {
        assert_eq!(with(&[number], &Standard, name), ALLOW, "{name}");
        assert_ne!(with(&[0], &Standard, name), ALLOW, "{name}");
        assert_ne!(with(&[number], &Strict, name), ALLOW, "{name}");
        assert_eq!(with(&[number], &Minimal, name), ALLOW, "{name}");
    }
}

#[test]
fn what_is_shown_is_the_same_profile() {
    let own = file(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": HERE.native.name, "subArchitectures": [HERE.foreign.name]}],
        "syscalls": [
            {"names": ["read", "nope", "socket"], "action": "SCMP_ACT_ALLOW"},
            {"name": "write", "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_CHOWN"]}},
            {"name": "kill", "action": "SCMP_ACT_TRAP", "args": [
                {"index": 1, "value": 9, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        ],
    }));
    for profile in ALL.iter().chain([&own]) {
        let shown = show(profile, &granted()).unwrap();
        let again = SeccompProfile::File {
            name: "shown".to_owned(),
            text: shown.clone(),
        };
        assert_eq!(compiled(profile), compiled(&again), "{profile:?}");
        assert_eq!(show(&again, &granted()).unwrap(), shown);
    }
}

#[test]
fn profiles_are_short() {
    for profile in &ALL {
        let length = compiled(profile).0.len();
        assert!(length < 1000, "{profile:?}: {length} instructions");
    }
}
