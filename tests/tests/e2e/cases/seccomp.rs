//! Which system calls a container may make, by profile.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World, fixture};
use serde_json::{Value, json};
use syscalls::Sysno;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            every_call_has_the_answer_of_its_profile,
            the_answers_are_the_filters_own,
            a_profile_of_the_users_own,
            shells_run_under_strict,
            a_bad_profile_is_told_before_anything_is_made,
        ],
    }
}

const EPERM: u8 = 1;
const ENOSYS: u8 = 38;
/// What a filter says in place of EPERM where the two must not be mixed up.
const MARK: u8 = 77;

/// What a profile does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The kernel answers.
    Pass,
    /// EPERM.
    Refuse,
    /// ENOSYS.
    Unknown,
}
use Answer::{Pass, Refuse, Unknown};

const PROFILES: [&str; 3] = ["default", "minimal", "strict"];

/// A call, its first arguments, and what each of the profiles does with it.
type Row = (&'static str, &'static [i64], [Answer; 3]);

const BLOCKED: [Answer; 3] = [Refuse; 3];
const FREE: [Answer; 3] = [Pass; 3];
/// Left alone by `minimal` only.
const NOT_CRITICAL: [Answer; 3] = [Refuse, Pass, Refuse];
/// Refused by `strict` only.
const NOT_STRICT: [Answer; 3] = [Pass, Pass, Refuse];

/// By name: those that an architecture lacks are left out there.
const ROWS: &[Row] = &[
    // What `default` is documented to block.
    ("mount", &[], BLOCKED),
    ("umount2", &[], BLOCKED),
    ("ptrace", &[], NOT_CRITICAL),
    ("kexec_load", &[], BLOCKED),
    ("kexec_file_load", &[], BLOCKED),
    ("reboot", &[], BLOCKED),
    ("init_module", &[], BLOCKED),
    ("finit_module", &[], BLOCKED),
    ("delete_module", &[], BLOCKED),
    ("settimeofday", &[], BLOCKED),
    ("clock_settime", &[], BLOCKED),
    ("sethostname", &[], NOT_CRITICAL),
    ("setdomainname", &[], NOT_CRITICAL),
    ("pivot_root", &[], BLOCKED),
    ("bpf", &[], BLOCKED),
    ("perf_event_open", &[], BLOCKED),
    ("setns", &[], BLOCKED),
    ("unshare", &[], BLOCKED),
    ("open_by_handle_at", &[], BLOCKED),
    // The rest of both kinds, a sample.
    ("fsopen", &[], BLOCKED),
    ("fsmount", &[], BLOCKED),
    ("move_mount", &[], BLOCKED),
    ("open_tree", &[], BLOCKED),
    ("mount_setattr", &[], BLOCKED),
    ("swapon", &[], BLOCKED),
    ("iopl", &[], BLOCKED),
    ("keyctl", &[], NOT_CRITICAL),
    ("add_key", &[], NOT_CRITICAL),
    ("io_uring_setup", &[], NOT_CRITICAL),
    ("userfaultfd", &[], NOT_CRITICAL),
    ("process_vm_readv", &[], NOT_CRITICAL),
    ("quotactl", &[], NOT_CRITICAL),
    ("clone3", &[], [Unknown; 3]),
    ("setxattrat", &[], [Unknown, Pass, Unknown]),
    ("chroot", &[], NOT_STRICT),
    ("seccomp", &[], NOT_STRICT),
    ("mq_open", &[], NOT_STRICT),
    ("setxattr", &[], NOT_STRICT),
    ("getpid", &[], FREE),
    ("read", &[], FREE),
    ("openat", &[], FREE),
    ("mmap", &[], FREE),
    ("futex", &[], FREE),
    ("execve", &[], FREE),
    ("execveat", &[], FREE),
    ("sendmsg", &[], FREE),
    ("statx", &[], FREE),
    ("rseq", &[], FREE),
    ("shmget", &[], FREE),
    // By their arguments: threads and processes, but no namespaces.
    ("clone", &[17], FREE),
    ("clone", &[0x1000_0000 | 17], BLOCKED),
    ("clone", &[0x0002_0000 | 17], BLOCKED),
    ("clone", &[0x4000_0000 | 17], BLOCKED),
    // Unix, IPv4, IPv6, routes; the crypto interface, packets, and vsock with
    // and without garbage in the upper half of the register.
    ("socket", &[1, 1, 0], FREE),
    ("socket", &[2, 1, 0], FREE),
    ("socket", &[10, 1, 0], FREE),
    ("socket", &[16, 3, 0], FREE),
    ("socket", &[38, 5, 0], NOT_CRITICAL),
    ("socket", &[17, 3, 0], NOT_STRICT),
    ("socket", &[40, 1, 0], BLOCKED),
    ("socket", &[0x1_0000_0000 | 40, 1, 0], BLOCKED),
    ("personality", &[0xffff_ffff], FREE),
    ("personality", &[0], FREE),
    ("personality", &[8], NOT_STRICT),
    ("personality", &[0x004_0000], NOT_CRITICAL),
];

/// The words for the program that makes the calls, and their rows.
fn words() -> Vec<(String, Row)> {
    let known = ROWS.iter().filter_map(|row| {
        let number = row.0.parse::<Sysno>().ok()?.id();
        let arguments = row.1.iter().map(|it| format!(",{it}"));
        Some((format!("{number}{}", arguments.collect::<String>()), *row))
    });
    known.collect()
}

/// The program that makes calls, in a folder of its own.
struct Calls {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Calls {
    fn new(world: &World) -> Result<Self> {
        let folder = world.temp()?;
        Ok(Self {
            program: fixture::calls(folder.path())?,
            folder,
        })
    }

    fn file(&self, name: &str, document: &Value) -> Result<String> {
        let path = self.folder.path().join(name);
        fs::write(&path, document.to_string())?;
        Ok(path.display().to_string())
    }

    /// What came of each word, in a container with these options.
    fn outcomes(
        &self,
        world: &World,
        options: &[&str],
        words: &[String],
    ) -> Result<BTreeMap<String, String>> {
        // The machine has room for so many shared folders, which others need.
        let script = "cat > /tmp/calls && chmod 755 /tmp/calls && exec /tmp/calls \"$@\"";
        let options = [&["-i"], options].concat();
        let command = ["sh", "-c", script, "sh"].map(ToOwned::to_owned);
        let output = world
            .run_with(&options, command.into_iter().chain(words.to_vec()))
            .stdin(fs::read(&self.program)?)
            .timeout(world.patience(60))
            .output()?
            .success()?;
        let text = output.stdout_text();
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        Ok(pairs
            .map(|(word, outcome)| (word.to_owned(), outcome.to_owned()))
            .collect())
    }
}

fn every_call_has_the_answer_of_its_profile(world: &World) -> Result<()> {
    let calls = Calls::new(world)?;
    let rows = words();
    ensure!(rows.len() > 50, "only {} calls are known here", rows.len());
    let mut words: Vec<String> = rows.iter().map(|(word, _)| word.clone()).collect();
    let x32 = format!("{}", 0x4000_0000 + 39);
    words.extend(["1000".to_owned(), "500".to_owned()]);
    if cfg!(target_arch = "x86_64") {
        words.push(x32.clone());
    }
    for (index, profile) in PROFILES.iter().enumerate() {
        let outcomes = calls.outcomes(world, &["--seccomp", profile], &words)?;
        for (word, (name, arguments, answers)) in &rows {
            let is = outcomes.get(word).context("a call was not made")?;
            let what = format!("{profile}: {name}{arguments:?}");
            match answers[index] {
                Refuse => same(&what, is, &format!("errno {EPERM}"))?,
                Unknown => same(&what, is, &format!("errno {ENOSYS}"))?,
                Pass => ensure!(is.starts_with("errno "), "{what}: {is}"),
            }
        }
        for unknown in ["1000", "500"] {
            same(profile, &outcomes[unknown].as_str(), &"errno 38")?;
        }
        if cfg!(target_arch = "x86_64") {
            // SIGSYS.
            same("x32", &outcomes[&x32].as_str(), &"signal 31")?;
        }
    }
    Ok(())
}

/// Without capabilities the kernel says EPERM itself in many a case. So the
/// same profiles, as `seccomp show` has them, say something else in its place,
/// which also shows that what is shown is the profile.
fn the_answers_are_the_filters_own(world: &World) -> Result<()> {
    let calls = Calls::new(world)?;
    let rows = words();
    let words: Vec<String> = rows.iter().map(|(word, _)| word.clone()).collect();
    for (index, profile) in PROFILES.iter().enumerate() {
        let shown = world.isolazi(["seccomp", "show", profile]).output()?;
        let mut document = shown.success()?.json()?;
        mark(&mut document);
        let file = calls.file(&format!("{profile}.json"), &document)?;
        let outcomes = calls.outcomes(world, &["--seccomp", &file], &words)?;
        for (word, (name, arguments, answers)) in &rows {
            let is = outcomes.get(word).context("a call was not made")?;
            let what = format!("{profile}: {name}{arguments:?}");
            match answers[index] {
                Refuse => same(&what, is, &format!("errno {MARK}"))?,
                Unknown => same(&what, is, &format!("errno {ENOSYS}"))?,
                Pass => ensure!(*is != format!("errno {MARK}"), "{what} is refused"),
            }
        }
    }
    Ok(())
}

/// Puts another error in the place of EPERM, wherever the document has it.
fn mark(document: &mut Value) {
    if document["defaultErrnoRet"] == EPERM {
        document["defaultErrnoRet"] = json!(MARK);
    }
    for rule in document["syscalls"].as_array_mut().into_iter().flatten() {
        if rule["errnoRet"] == EPERM {
            rule["errnoRet"] = json!(MARK);
        }
    }
}

fn a_profile_of_the_users_own(world: &World) -> Result<()> {
    let calls = Calls::new(world)?;
    let number = |name: &str| name.parse::<Sysno>().map(|it| it.id().to_string());
    let [kill, umask, getpgid, fchdir] =
        ["kill", "umask", "getpgid", "fchdir"].map(|name| number(name).unwrap_or_default());
    let equal =
        |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["kill", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42,
              "args": [equal(0, 500), equal(1, 0)] },
            { "name": "kill", "action": "SCMP_ACT_ERRNO", "errnoRet": 42,
              "args": [{ "index": 1, "value": 60, "op": "SCMP_CMP_GT" }] },
            { "name": "umask", "action": "SCMP_ACT_KILL_PROCESS" },
            { "name": "getpgid", "action": "SCMP_ACT_TRAP" },
            { "name": "fchdir", "action": "SCMP_ACT_ERRNO", "excludes": { "caps": ["CAP_CHOWN"] } },
        ],
    });
    let file = calls.file("own.json", &profile)?;
    let kills = [
        (format!("{kill},500,0"), "errno 42"),
        (format!("{kill},500,1"), "errno 3"),
        (format!("{kill},600,0"), "errno 3"),
        (format!("{kill},600,61"), "errno 42"),
        (umask, "signal 31"),
        (getpgid, "signal 31"),
        // CAP_CHOWN is there, so the kernel answers: no such descriptor.
        (fchdir, "errno 9"),
    ];
    let words: Vec<String> = kills.iter().map(|(word, _)| word.clone()).collect();
    let outcomes = calls.outcomes(
        world,
        &["--security-opt", &format!("seccomp={file}")],
        &words,
    )?;
    // There are no processes of these numbers.
    for (word, expected) in &kills {
        same(word, &outcomes[word].as_str(), expected)?;
    }
    let container = world.start(&["--seccomp", &file], &["sleep", "1000"])?;
    let options = &container.inspect()?["HostConfig"]["SecurityOpt"];
    let shown = options[0].as_str().unwrap_or_default();
    let shown = shown.strip_prefix("seccomp=").context("no profile")?;
    same(
        "the profile",
        &serde_json::from_str::<Value>(shown)?,
        &profile,
    )?;
    // A further process has the same filter.
    let umask = container.exec(&[], &["sh", "-c", "umask"]).output()?;
    ensure!(
        umask.exit_code() == Some(128 + 31),
        "{}",
        umask.complaint("umask")
    );
    Ok(())
}

fn shells_run_under_strict(world: &World) -> Result<()> {
    let script = "set -e; cd /tmp; mkfifo pipe; (echo through the pipe > pipe) & cat pipe; wait; \
                  for i in 1 2 3; do echo $i; done | sort -r | head -n 1; \
                  mkdir -p a/b; echo x > a/b/c; mv a/b/c d; ln -s d e; cat e; chmod 600 d; rm -r a d e; \
                  sleep 0.1; kill -0 $$; trap 'echo bye' EXIT; test \"$(id -u)\" = 0; date > /dev/null";
    let expected = "through the pipe\n3\nx\nbye\n";
    let strict = ["run", "--rm", "--seccomp", "strict"];
    for (image, shell) in [("busybox", "sh"), ("debian", "dash"), ("debian", "bash")] {
        let image = world.image(image);
        let run = world
            .isolazi(strict)
            .args([image.as_str(), shell, "-c", script]);
        run.timeout(world.patience(120))
            .output()?
            .success()?
            .stdout_is(expected)?;
    }
    // The small init comes through, too.
    let output = world.run_with(&["--seccomp", "strict", "--init"], ["echo", "hello"]);
    output.output()?.success()?.stdout_is("hello\n")?;
    let chroot = world.run_with(&["--seccomp", "strict"], ["chroot", "/", "/bin/true"]);
    chroot.output()?.code(1)?.stderr_has("not permitted")?;
    Ok(())
}

fn a_bad_profile_is_told_before_anything_is_made(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let place = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let files = [
        (place("empty.json", "")?, "line 1"),
        (
            place(
                "broken.json",
                "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n}",
            )?,
            "line 3",
        ),
        (
            place("action.json", r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#)?,
            "defaultAction",
        ),
        (
            place(
                "op.json",
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"kill","action":"SCMP_ACT_TRAP","args":[{"index":0,"value":1,"op":"EQ"}]}]}"#,
            )?,
            "syscalls[0].args[0].op",
        ),
        (
            place("large.json", &" ".repeat((1 << 20) + 1))?,
            "larger than 1 MiB",
        ),
        (
            folder.path().join("missing.json").display().to_string(),
            "No such file",
        ),
        (folder.path().display().to_string(), "regular file"),
    ];
    for (file, complaint) in &files {
        let container = world.container();
        let run = world.isolazi(["run", "--name", container.name(), "--seccomp", file]);
        let output = run.args([world.busybox(), "true".to_owned()]).output()?;
        let output = output.fails_with(125, complaint)?;
        output.stderr_has(file)?;
        ensure!(!container.is_listed()?, "{file}: something was made");
        let shown = world.isolazi(["seccomp", "show", file]).output()?;
        shown.fails_with(1, complaint)?;
    }
    Ok(())
}
