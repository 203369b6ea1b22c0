//! How a container ends, or fails to begin.

use isolazi_agent::cgroup::Cgroup;
use isolazi_agent::launch::{NetworkNamespace, Stage};
use isolazi_agent::sys::process::fork_into;
use isolazi_protocol::ErrorCode;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use crate::cases;
use crate::container::Container;

cases![
    the_exit_code_is_the_commands,
    a_signal_is_told_apart,
    a_command_that_is_not_there,
    a_command_that_cannot_be_executed,
    a_script_without_interpreter,
    nothing_is_left_behind,
    the_fork_limit_holds,
    stragglers_are_killed_with_the_group,
];

fn the_exit_code_is_the_commands() {
    let output = Container::shell("echo out; echo err >&2; exit 7").run();
    assert_eq!(output.code, 7);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert!(output.warnings.is_empty(), "{:?}", output.warnings);
}

fn a_signal_is_told_apart() {
    let container = Container::new().command(&["sleep", "1000"]);
    assert_eq!(container.start().unwrap().kill(), 128 + 9);
}

fn a_command_that_is_not_there() {
    for command in ["nope", "/nope", "/etc/passwd/nope"] {
        let error = Container::new().command(&[command]).refused();
        assert_eq!(error.stage, Stage::Exec);
        assert_eq!(error.exit_code(), 127, "{command}");
        assert_eq!(error.code(), ErrorCode::CommandNotFound);
        assert!(error.to_string().contains(command), "{error}");
    }
}

fn a_command_that_cannot_be_executed() {
    for command in ["/etc/passwd", "/etc"] {
        let error = Container::new().command(&[command]).refused();
        assert_eq!(error.exit_code(), 126, "{command}");
        assert_eq!(error.code(), ErrorCode::NotExecutable);
    }
    let container = Container::new().command(&["/bin/foreign"]);
    let foreign = container.layer().join("bin/foreign");
    std::fs::write(&foreign, "not a program").unwrap();
    std::fs::set_permissions(
        &foreign,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    assert_eq!(container.refused().exit_code(), 126);
}

fn a_script_without_interpreter() {
    let container = Container::new().command(&["/bin/script"]);
    let script = container.layer().join("bin/script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = container.refused();
    assert_eq!(error.exit_code(), 127);
    assert!(error.to_string().contains("interpreter"), "{error}");
}

fn nothing_is_left_behind() {
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (mounts(), descriptors());
    let path = {
        let container = Container::shell("sleep 1000 & exit 0");
        container.run();
        container.refuse_twice();
        container.plan.cgroup.path.clone()
    };
    assert_eq!((mounts(), descriptors()), before);
    assert!(isolazi_agent::cgroup::remove(&path).is_empty());
    for groups in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        assert!(!groups.unwrap().path().join(&path).exists());
    }
}

fn stragglers_are_killed_with_the_group() {
    let container = Container::new();
    let group = Cgroup::create(&container.plan.cgroup).unwrap();
    let entrance = group.entrance().unwrap();
    let straggler = fork_into(CloneFlags::empty(), entrance.unified(), || {
        entrance.enter_v1().unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    let straggler = straggler.unwrap().pid;
    // It enters the older groups by itself, in its own time.
    let entered = || std::fs::read_to_string(format!("/proc/{straggler}/cgroup")).unwrap();
    while entered().matches("isolazi").count() < group.hierarchies().len() {
        std::thread::yield_now();
    }
    drop(entrance);
    assert!(isolazi_agent::launch::cleanup(&container.plan).is_empty());
    assert!(group.hierarchies().iter().all(|it| !it.folder.exists()));
    let status = nix::sys::wait::waitpid(straggler, None).unwrap();
    assert_eq!(
        status,
        WaitStatus::Signaled(straggler, Signal::SIGKILL, false)
    );
}

impl Container {
    /// A failing launch must leave as little as a good one.
    fn refuse_twice(&self) {
        let mut plan = self.plan.clone();
        plan.process.args = vec!["nope".to_owned()];
        for _ in 0..2 {
            let (stdin, stdout, stderr) = crate::container::null_streams();
            let stdio = isolazi_agent::launch::Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            };
            assert!(isolazi_agent::launch::start(&plan, stdio, NetworkNamespace::New).is_err());
        }
    }
}

fn the_fork_limit_holds() {
    let script = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; echo all";
    let output = Container::shell(script).run();
    assert!(!output.stdout.contains("all"), "{output:?}");
    assert!(output.stderr.contains("fork"), "{output:?}");
}
