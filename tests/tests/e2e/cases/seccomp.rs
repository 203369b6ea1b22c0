//! Which system calls a container may make: profiles, and `--security-opt`.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::{Value, json};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            profiles_are_chosen_by_name,
            minimal_refuses_only_what_is_critical,
            strict_is_enough_for_a_shell,
            a_profile_may_be_a_file,
            what_is_shown_is_a_profile,
            privileges_may_be_gained_when_asked_for,
            system_paths_may_be_left_open,
            a_profile_holds_for_exec,
            security_options_are_shown,
            options_that_make_no_sense_are_refused,
        ],
    }
}

/// `Seccomp` and `NoNewPrivs` of a process that is run with `options`.
fn status(world: &World, options: &[&str]) -> Result<String> {
    let ask = [
        "sh",
        "-c",
        "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2 | xargs",
    ];
    let run = world.run_with(options, ask).output()?.success()?;
    Ok(run.stdout_text().trim().to_owned())
}

fn profiles_are_chosen_by_name(world: &World) -> Result<()> {
    for (options, expected) in [
        (&[][..], "1 2"),
        (&["--seccomp", "minimal"], "1 2"),
        (&["--seccomp", "strict"], "1 2"),
        (&["--seccomp", "disabled"], "1 0"),
        (&["--no-seccomp"], "1 0"),
        (&["--security-opt", "seccomp=unconfined"], "1 0"),
        (&["--privileged"], "0 0"),
        (&["--privileged", "--seccomp", "strict"], "0 2"),
    ] {
        same(
            &format!("{options:?}"),
            &status(world, options)?.as_str(),
            &expected,
        )?;
    }
    Ok(())
}

/// Lines `CALL: ERRNO` of the probe, run with `profile`.
fn probed(world: &World, profile: &str) -> Result<Vec<(String, String)>> {
    let run = world.run_with(&["--seccomp", profile], ["probe", "forbidden"]);
    let said = run.output()?.success()?.stdout_text();
    let lines = said.lines().filter_map(|line| line.split_once(": "));
    Ok(lines
        .map(|(call, errno)| (call.to_owned(), errno.to_owned()))
        .collect())
}

fn minimal_refuses_only_what_is_critical(world: &World) -> Result<()> {
    let refused: Vec<String> = probed(world, "minimal")?
        .into_iter()
        .filter(|(_, errno)| errno == "EPERM")
        .map(|(call, _)| call)
        .collect();
    for call in [
        "mount",
        "pivot_root",
        "init_module",
        "kexec_load",
        "reboot",
        "bpf",
    ] {
        ensure!(
            refused.iter().any(|it| it == call),
            "{call} is not in {refused:?}"
        );
    }
    // What is merely unusual is left to the kernel.
    let traced = world.run_with(
        &["--seccomp", "minimal"],
        ["setarch", "--uname-2.6", "true"],
    );
    traced.output()?.success()?;
    Ok(())
}

fn strict_is_enough_for_a_shell(world: &World) -> Result<()> {
    for (call, errno) in probed(world, "strict")? {
        ensure!(matches!(&*errno, "EPERM" | "ENOSYS"), "{call}: {errno}");
    }
    let script = "cd /tmp; for n in 3 1 2; do echo $n; done | sort >f; \
                  (sleep 0.1; echo late) & wait; mkdir d; mv f d/; ls -l d | wc -l; cat d/f; \
                  kill -0 $$; date +%s >/dev/null; trap 'echo end' EXIT";
    let run = world.run_with(&["--seccomp", "strict"], ["sh", "-c", script]);
    run.output()?
        .success()?
        .stdout_is("late\n2\n1\n2\n3\nend\n")?;
    let chroot = ["chroot", "/", "true"];
    let refused = world.run_with(&["--seccomp", "strict"], chroot).output()?;
    ensure!(!refused.is_success(), "strict lets programs chroot");
    world.run(chroot).output()?.success()?;
    Ok(())
}

/// A profile that allows everything but what `rule` says.
fn profile(rule: &Value) -> String {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }).to_string()
}

fn a_profile_may_be_a_file(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("no folders.json");
    let rule = json!({ "names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 });
    fs::write(&file, profile(&rule))?;
    let path = file.display().to_string();
    let option = format!("seccomp={path}");
    let script = "mkdir /tmp/d 2>&1; echo one >/tmp/f && cat /tmp/f";
    for options in [["--seccomp", &*path], ["--security-opt", &*option]] {
        let run = world.run_with(&options, ["sh", "-c", script]).output()?;
        let run = run.success()?;
        run.stdout_has("No space left on device")?
            .stdout_has("one\n")?;
    }
    // By argument: only folders that everybody may write to.
    let rule = json!({
        "names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
        "args": [{ "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 0o2, "valueTwo": 0o2 }],
    });
    fs::write(&file, profile(&rule))?;
    let script = "touch /tmp/f; chmod 600 /tmp/f && echo private; chmod 666 /tmp/f 2>/dev/null || echo refused";
    let run = world
        .run_with(&["--seccomp", &path], ["sh", "-c", script])
        .output()?;
    ensure!(
        run.stdout_text().contains("private"),
        "{}",
        run.complaint("chmod is refused")
    );
    Ok(())
}

fn what_is_shown_is_a_profile(world: &World) -> Result<()> {
    let folder = world.temp()?;
    for name in ["default", "minimal", "strict"] {
        let shown = world.bare(["seccomp", "show", name]).output()?.success()?;
        let text = shown.stdout_text();
        let document: Value = serde_json::from_str(&text)?;
        ensure!(document["syscalls"].is_array(), "{name} has no calls");
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        let path = file.display().to_string();
        same(name, &probed(world, &path)?, &probed(world, name)?)?;
    }
    Ok(())
}

fn privileges_may_be_gained_when_asked_for(world: &World) -> Result<()> {
    let options = ["--security-opt", "no-new-privileges=false"];
    same("gaining", &status(world, &options)?.as_str(), &"0 2")?;
    let as_user = ["-u", "1000", "--security-opt", "no-new-privileges:false"];
    same("as a user", &status(world, &as_user)?.as_str(), &"0 2")?;
    let script = "cp /bin/busybox /tmp/id && chmod 4755 /tmp/id && chmod 755 /tmp && su -s /tmp/id nobody -u";
    let gained = world.run_with(&options, ["sh", "-c", script]).output()?;
    let kept = world.run(["sh", "-c", script]).output()?;
    ensure!(
        gained.stdout_text() != kept.stdout_text() || !gained.is_success(),
        "{}",
        gained.complaint("no difference")
    );
    // The capability that installs the filter is gone.
    let ask = ["sh", "-c", "grep CapEff /proc/self/status | cut -f 2"];
    let run = world.run_with(&options, ask).output()?.success()?;
    run.stdout_is("00000000800405fb\n")?;
    let run = world.run_with(&as_user, ask).output()?.success()?;
    run.stdout_is("0000000000000000\n")?;
    Ok(())
}

fn system_paths_may_be_left_open(world: &World) -> Result<()> {
    let script = "grep -c ' /proc/' /proc/self/mountinfo";
    let closed = world.run(["sh", "-c", script]).output()?.success()?;
    ensure!(
        closed.stdout_text().trim().parse::<u32>()? > 5,
        "nothing is masked"
    );
    let options = ["--security-opt", "systempaths=unconfined"];
    let open = world.run_with(&options, ["sh", "-c", script]).output()?;
    same("mounts below /proc", &open.stdout_text().trim(), &"0")?;
    Ok(())
}

fn a_profile_holds_for_exec(world: &World) -> Result<()> {
    let container = world.start(&["--seccomp", "strict"], &["sleep", "1000"])?;
    let chroot = container.exec(&[], &["chroot", "/", "true"]).output()?;
    ensure!(!chroot.is_success(), "exec is not confined");
    container.exec(&[], &["true"]).output()?.success()?;
    Ok(())
}

fn security_options_are_shown(world: &World) -> Result<()> {
    let options = [
        "--seccomp",
        "strict",
        "--security-opt",
        "apparmor=unconfined",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let shown = container.inspect()?;
    let listed = shown["HostConfig"]["SecurityOpt"].to_string();
    for part in ["seccomp=strict", "apparmor=unconfined"] {
        ensure!(listed.contains(part), "{listed}");
    }
    Ok(())
}

fn options_that_make_no_sense_are_refused(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("profile");
    let path = file.display().to_string();
    for (text, complaint) in [
        ("{", "line 1"),
        ("{\"defaultAction\": \"SCMP_ACT_MAYBE\"}", "SCMP_ACT_MAYBE"),
        (
            "{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}",
            "SCMP_ACT_NOTIFY",
        ),
    ] {
        fs::write(&file, text)?;
        let run = world.run_with(&["--seccomp", &path], ["true"]).output()?;
        run.fails_with(125, complaint)?;
    }
    for (options, complaint) in [
        (["--seccomp", "/no/such/file"], "/no/such/file"),
        (["--security-opt", "seccomp=/no/such/file"], "/no/such/file"),
        (["--security-opt", "nonsense"], "nonsense"),
        (
            ["--security-opt", "no-new-privileges=perhaps"],
            "no-new-privileges=perhaps",
        ),
        (["--security-opt", "label=kind:x"], "kind:x"),
    ] {
        let run = world.run_with(&options, ["true"]).output()?;
        run.fails_with(125, complaint)?;
    }
    world
        .bare(["seccomp", "show", "disabled"])
        .output()?
        .fails_with(1, "no rules")?;
    let left = world
        .isolazi(["ps", "-aq"])
        .output()?
        .success()?
        .stdout_text();
    for id in left.lines() {
        let shown = world.isolazi(["inspect", id]).output()?;
        ensure!(
            !shown.stdout_text().contains("\"seccomp=/"),
            "a container is left"
        );
    }
    Ok(())
}
