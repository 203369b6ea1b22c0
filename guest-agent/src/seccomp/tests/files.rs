//! Profiles of files, as Docker reads them.

use serde_json::json;

use super::*;

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
