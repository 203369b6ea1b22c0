//! What profiles answer, by running their programs the way the kernel does.

use nix::libc;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::builtin::{NAMESPACE_FLAGS, PERSONALITIES};
use super::calls::HERE;
use super::*;
use crate::sys::caps::CapabilitySet;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// What a container without options has, on a kernel of today.
fn granted() -> Granted {
    Granted {
        caps: crate::launch::plan::DEFAULT_CAPABILITIES,
        kernel: (6, 12),
    }
}

/// A call that can be made.
#[derive(Debug, Clone, Copy)]
struct Made {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

fn made(name: &str, arguments: &[u64]) -> Made {
    let number = HERE.native.number(name);
    numbered(
        number.unwrap_or_else(|| panic!("no {name} here")),
        arguments,
    )
}

fn numbered(number: u32, arguments: &[u64]) -> Made {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Made {
        arch: HERE.native.audit,
        number,
        arguments: all,
    }
}

/// Classic BPF, as far as filters use it (bpf(4)), on a `struct seccomp_data`.
fn run(program: &SeccompProgram, made: &Made) -> u32 {
    let mut data = vec![made.number, made.arch, 0, 0];
    data.extend(
        made.arguments
            .iter()
            .flat_map(|it| [*it as u32, (it >> 32) as u32]),
    );
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = program.0[at];
        let code = u16::from_ne_bytes([c0, c1]);
        let k = u32::from_ne_bytes([k0, k1, k2, k3]);
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
            other => panic!("instruction {other:#x} is not used by filters"),
        };
        at += usize::from(if taken { jt } else { jf });
    }
}

fn compiled(profile: &SeccompProfile) -> SeccompProgram {
    programs(profile, &granted()).unwrap().remove(0)
}

fn file(document: &Value) -> SeccompProfile {
    SeccompProfile::File {
        name: "test.json".to_owned(),
        text: document.to_string(),
    }
}

fn answer(profile: &SeccompProfile, made: Made) -> u32 {
    run(&compiled(profile), &made)
}

const ALL: [SeccompProfile; 3] = [
    SeccompProfile::Default,
    SeccompProfile::Minimal,
    SeccompProfile::Strict,
];
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

/// A profile of one rule about `kill`, and what is to be an error in it.
fn with(rule: &Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
}

#[test]
fn mistakes_are_named_by_their_place() {
    let arg = |op: &str, index: u32| {
        with(&json!({"name": "kill", "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": index, "value": 1, "op": op}]}))
    };
    let cases = [
        (json!({}), "defaultAction"),
        (json!({"defaultAction": "ALLOW"}), "defaultAction"),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}),
            "defaultErrnoRet",
        ),
        (
            with(&json!({"name": "kill", "action": "SCMP_ACT_TRACE"})),
            "syscalls[0].action",
        ),
        (
            with(&json!({"name": "kill", "action": "SCMP_ACT_NOTIFY"})),
            "syscalls[0].action",
        ),
        (
            with(&json!({"name": "kill", "action": ""})),
            "syscalls[0].action",
        ),
        (
            with(&json!({"name": "kill", "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "syscalls[0].errnoRet",
        ),
        (
            with(&json!({"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"})),
            "syscalls[0]",
        ),
        (arg("SCMP_CMP_XX", 1), "syscalls[0].args[1].op"),
        (arg("SCMP_CMP_EQ", 6), "syscalls[0].args[1].index"),
        (
            with(
                &json!({"name": "kill", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}),
            ),
            "syscalls[0].includes.minKernel",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86", "i386"]}),
            "architectures[1]",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86"}]}),
            "archMap",
        ),
    ];
    for (document, place) in cases {
        let error = programs(&file(&document), &granted())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&format!("{place}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for (text, part) in [
        ("", "line 1"),
        ("[]", "line 1"),
        ("{\n\"defaultAction\": 5}", "line 2"),
        (
            r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"name":"a","action":"b","args":[{"index":-1}]}]}"#,
            "column",
        ),
    ] {
        let text = text.to_owned();
        let profile = SeccompProfile::File {
            name: "x".to_owned(),
            text,
        };
        let error = programs(&profile, &granted()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_kernel_is_refused() {
    let many: Vec<Value> = (0..3000)
        .map(|value| {
            json!({"name": "kill", "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let document = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": many});
    let error = programs(&file(&document), &granted()).unwrap_err();
    assert!(matches!(error, SeccompError::TooLong { .. }), "{error}");
    let large = SeccompProfile::File {
        name: "x".to_owned(),
        text: " ".repeat(MAX_PROFILE_BYTES + 1),
    };
    assert!(matches!(
        programs(&large, &granted()),
        Err(SeccompError::TooLarge(_))
    ));
}

#[test]
fn rules_depend_on_capabilities_machines_and_kernels() {
    let other = if HERE.name == "amd64" {
        "arm64"
    } else {
        "amd64"
    };
    let cases = [
        (json!({"includes": {"caps": ["CAP_CHOWN"]}}), true),
        (
            json!({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}),
            false,
        ),
        (
            json!({"excludes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}),
            false,
        ),
        (json!({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}), true),
        (json!({"includes": {"arches": [HERE.name, other]}}), true),
        (json!({"includes": {"arches": [other]}}), false),
        (json!({"excludes": {"arches": [HERE.name]}}), false),
        (json!({"excludes": {"arches": [other]}}), true),
        (json!({"includes": {"minKernel": "6.12"}}), true),
        (json!({"includes": {"minKernel": "6.13"}}), false),
        (json!({"excludes": {"minKernel": "5.0"}}), false),
        (
            json!({"includes": {"minKernel": "5.20"}, "excludes": {"arches": [other]}}),
            true,
        ),
        (
            json!({"includes": {}, "excludes": null, "comment": "", "args": null}),
            true,
        ),
    ];
    for (on, applies) in cases {
        let mut rule = json!({"names": ["kill"], "action": "SCMP_ACT_ALLOW"});
        rule.as_object_mut()
            .unwrap()
            .extend(on.as_object().unwrap().clone());
        let expected = if applies { ALLOW } else { EPERM };
        assert_eq!(
            answer(&file(&with(&rule)), made("kill", &[])),
            expected,
            "{on}"
        );
    }
}

#[test]
fn a_rule_without_conditions_wins_and_of_two_the_first() {
    let rule = |action: &str, args: Value| json!({"name": "kill", "action": action, "args": args});
    let five = || json!([{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]);
    let document = |rules: &[Value]| {
        file(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7, "syscalls": rules}))
    };
    let both = [
        rule("SCMP_ACT_TRAP", five()),
        rule("SCMP_ACT_ALLOW", json!([])),
        rule("SCMP_ACT_LOG", json!(null)),
    ];
    for made in [made("kill", &[5]), made("kill", &[6])] {
        assert_eq!(answer(&document(&both), made), ALLOW);
    }
    // A rule that says what the default says is no rule.
    let same = json!({"name": "kill", "action": "SCMP_ACT_ERRNO", "errnoRet": 7});
    let rules = [same, rule("SCMP_ACT_TRAP", five())];
    assert_eq!(
        answer(&document(&rules), made("kill", &[5])),
        libc::SECCOMP_RET_TRAP
    );
    assert_eq!(answer(&document(&rules), made("kill", &[6])), EPERM + 6);
    // Two conditions on one argument are two rules.
    let two = json!([{"index": 0, "value": 5, "op": "SCMP_CMP_LT"}, {"index": 0, "value": 9, "op": "SCMP_CMP_GT"}]);
    let rules = [rule("SCMP_ACT_ALLOW", two)];
    let answers = [4, 7, 10].map(|it| answer(&document(&rules), made("kill", &[it])));
    assert_eq!(answers, [ALLOW, EPERM + 6, ALLOW]);
}

#[test]
fn a_foreign_architecture_has_its_own_numbers() {
    let profile = file(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [HERE.native.name, HERE.foreign.name, "SCMP_ARCH_X32", "SCMP_ARCH_S390X"],
        "syscalls": [
            {"names": ["getpid", "socket", "semop"], "action": "SCMP_ACT_ALLOW"},
            {"name": "bind", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
            {"name": "connect", "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
        ],
    }));
    let program = compiled(&profile);
    let foreign = |name: &str, arguments: &[u64]| {
        let arch = HERE.foreign.audit;
        let number = HERE.foreign.number(name).unwrap();
        run(
            &program,
            &Made {
                arch,
                ..numbered(number, arguments)
            },
        )
    };
    assert_eq!(foreign("getpid", &[]), ALLOW);
    assert_eq!(foreign("getppid", &[]), EPERM);
    assert_eq!(run(&program, &made("getpid", &[])), ALLOW);
    if HERE.foreign.multiplexes {
        let answers = [1, 2, 3, 4].map(|which| foreign("socketcall", &[which]));
        // What cannot be looked at is not let through, and is held back.
        assert_eq!(answers, [ALLOW, EPERM, KILL, EPERM]);
        assert_eq!([1, 2].map(|which| foreign("ipc", &[which])), [ALLOW, EPERM]);
    }
    if HERE.native.has_x32 {
        assert_eq!(run(&program, &numbered(0x4000_0027, &[])), KILL);
    }
}

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

fn holds(op: &str, argument: u64, value: u64, two: u64) -> bool {
    match op {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        _ => argument & value == two & value,
    }
}

/// Values whose halves often are equal, or next to each other.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0_u32), Just(1), Just(2), Just(u32::MAX), any::<u32>()];
    (half.clone(), half).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

type Compared = (usize, u64, u64);

proptest! {
    /// Rules are tried one after the other; all conditions of one must hold.
    #[test]
    fn conditions_mean_what_they_say(
        rules in prop::collection::vec(prop::collection::vec((0..7_usize, value(), value()), 1..=6), 1..6),
        arguments in prop::array::uniform6(value()),
    ) {
        let arg = |(index, (op, value, two)): (usize, &Compared)| {
            json!({"index": index, "value": value, "valueTwo": two, "op": OPERATORS[*op]})
        };
        let described: Vec<Value> = rules.iter().enumerate().map(|(number, conditions)| {
            let args: Vec<Value> = conditions.iter().enumerate().map(arg).collect();
            json!({"name": "futex", "action": "SCMP_ACT_ERRNO", "errnoRet": 100 + number, "args": args})
        }).collect();
        let profile = file(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": described}));
        let first = rules.iter().position(|conditions| {
            conditions.iter().zip(arguments).all(|((op, value, two), argument)| {
                holds(OPERATORS[*op], argument, *value, *two)
            })
        });
        let expected = first.map_or(ALLOW, |number| libc::SECCOMP_RET_ERRNO | (100 + number as u32));
        prop_assert_eq!(answer(&profile, made("futex", &arguments)), expected);
    }

    /// Whatever is listed, every number finds its answer, however far the jumps.
    #[test]
    fn every_number_finds_its_answer(listed in prop::collection::vec(any::<bool>(), 500)) {
        let calls: Vec<(u32, &str)> = HERE.native.calls().collect();
        let is_listed = |number: u32| listed.get(number as usize) == Some(&true);
        let names: Vec<&str> = calls.iter().filter(|(number, _)| is_listed(*number)).map(|(_, name)| *name).collect();
        let profile = file(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}));
        let program = compiled(&profile);
        for number in 0..600 {
            let known = calls.iter().any(|(it, _)| *it == number);
            let expected = match (known, is_listed(number)) {
                (true, true) => ALLOW,
                (true, false) => EPERM,
                (false, _) => ENOSYS,
            };
            prop_assert_eq!(run(&program, &numbered(number, &[])), expected, "{}", number);
        }
    }
}

#[test]
fn profiles_are_short() {
    for profile in &ALL {
        let length = compiled(profile).0.len();
        assert!(length < 1000, "{profile:?}: {length} instructions");
    }
}
