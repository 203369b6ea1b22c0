//! Further processes in a running container.

use crate::cases;
use crate::container::{Container, spec};

cases![
    a_further_process_is_inside,
    a_further_process_is_as_restricted,
    a_further_process_has_its_own_settings,
    a_further_process_on_a_terminal,
    a_further_process_that_is_not_there,
    a_container_that_has_ended,
    the_launcher_stays_outside,
];

fn sleeping() -> Container {
    Container::new()
        .command(&["sleep", "1000"])
        .env(&["A=1", "B=2"])
}

fn a_further_process_is_inside() {
    let container = sleeping();
    let init = container.start().unwrap();
    let script = "cd /proc/1/ns && for n in mnt pid uts ipc net cgroup; do \
                  [ $(readlink $n) = $(readlink /proc/self/ns/$n) ] || echo $n; done; \
                  hostname; cat /proc/1/cgroup > /tmp/a; cat /proc/self/cgroup > /tmp/b; \
                  busybox cmp /tmp/a /tmp/b && echo same; [ $$ -gt 1 ] && echo later";
    let output = init.exec(&spec(&["sh", "-c", script])).unwrap().finish();
    assert_eq!(output.stdout, "box\nsame\nlater\n", "{}", output.stderr);
    let pids: Vec<_> = isolazi_agent::cgroup::Cgroup::of_process(init.launched.pid)
        .hierarchies()
        .iter()
        .map(|it| it.folder.clone())
        .collect();
    assert!(
        pids.iter()
            .all(|it| it.ends_with(&container.plan.cgroup.path)),
        "{pids:?}"
    );
    init.kill();
}

fn a_further_process_is_as_restricted() {
    let container = sleeping();
    let init = container.start().unwrap();
    let script = "busybox grep -E '^(Cap|NoNew|Seccomp:|SigIgn)' /proc/1/status > /tmp/a; \
                  busybox grep -E '^(Cap|NoNew|Seccomp:|SigIgn)' /proc/self/status > /tmp/b; \
                  busybox cmp /tmp/a /tmp/b && echo same; umask; ls /proc/self/fd";
    let output = init.exec(&spec(&["sh", "-c", script])).unwrap().finish();
    assert_eq!(
        output.stdout, "same\n0022\n0\n1\n2\n3\n",
        "{}",
        output.stderr
    );
    init.kill();
}

fn a_further_process_has_its_own_settings() {
    let container = sleeping();
    let init = container.start().unwrap();
    let mut spec = spec(&["sh", "-c", "pwd; id -u; echo $A $B $C $HOME; exit 3"]);
    spec.env = vec!["B=3".to_owned(), "C=4".to_owned()];
    spec.cwd = Some("/tmp".to_owned());
    spec.user = Some("web".to_owned());
    let output = init.exec(&spec).unwrap().finish();
    assert_eq!(output.stdout, "/tmp\n33\n1 3 4 /var/www\n");
    assert_eq!(output.code, 3);
    init.kill();
}

fn a_further_process_on_a_terminal() {
    let container = sleeping();
    let init = container.start().unwrap();
    let spec = spec(&["sh", "-c", "tty; stty size; echo $TERM"]);
    let output = init.exec_on_terminal(&spec).finish();
    assert_eq!(output.stdout, "/dev/pts/0\n20 50\nxterm\n");
    init.kill();
}

fn a_further_process_that_is_not_there() {
    let container = sleeping();
    let init = container.start().unwrap();
    let error = init.exec(&spec(&["nope"])).map(drop).unwrap_err();
    assert_eq!(error.exit_code(), 127);
    init.kill();
}

fn a_container_that_has_ended() {
    let container = Container::shell("true");
    let init = container.start().unwrap();
    nix::sys::wait::waitid(
        nix::sys::wait::Id::Pid(init.launched.pid),
        nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
    )
    .unwrap();
    let error = init.exec(&spec(&["true"])).map(drop).unwrap_err();
    assert!(error.to_string().contains("ended"), "{error}");
    init.finish();
    assert_eq!(Container::shell("echo $$").run().stdout, "1\n");
}

fn the_launcher_stays_outside() {
    let namespace = || std::fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    let before = namespace();
    let container = sleeping();
    let init = container.start().unwrap();
    init.exec(&spec(&["true"])).unwrap().finish();
    let _ = init.exec(&spec(&["nope"])).map(drop);
    assert_eq!(namespace(), before);
    init.kill();
}
