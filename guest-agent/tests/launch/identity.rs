//! Who a container's process is, and what it may do.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use isolazi_agent::sys::process::{fork_into, pidfd_open};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::cases;
use crate::container::{Container, Output};

cases![
    root_has_eleven_capabilities,
    others_have_none,
    privileges_cannot_be_gained,
    the_filter_is_installed,
    the_kernel_answers_by_the_filter,
    users_by_name_and_number,
    a_user_that_is_not_there,
    the_environment_is_completed,
    the_environment_of_the_plan_wins,
    namespaces_are_its_own,
    signals_are_as_programs_expect,
    the_session_is_its_own,
    the_launchers_death_is_its_own,
];

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const ELEVEN: &str = "00000000800405fb";
const NONE: &str = "0000000000000000";

fn status(user: &str, field: &str) -> String {
    let output = Container::new()
        .command(&["cat", "/proc/self/status"])
        .user(user)
        .run();
    let line = output.stdout.lines().find(|line| line.starts_with(field));
    let value = line.and_then(|line| line.split_once(':'));
    value.unwrap().1.trim().to_owned()
}

fn root_has_eleven_capabilities() {
    assert_eq!(status("", "CapInh"), NONE);
    assert_eq!(status("", "CapPrm"), ELEVEN);
    assert_eq!(status("", "CapEff"), ELEVEN);
    assert_eq!(status("", "CapBnd"), ELEVEN);
    assert_eq!(status("", "CapAmb"), NONE);
}

fn others_have_none() {
    assert_eq!(status("web", "CapInh"), NONE);
    assert_eq!(status("web", "CapPrm"), NONE);
    assert_eq!(status("web", "CapEff"), NONE);
    assert_eq!(status("web", "CapBnd"), ELEVEN);
    assert_eq!(status("web", "CapAmb"), NONE);
}

fn privileges_cannot_be_gained() {
    assert_eq!(status("", "NoNewPrivs"), "1");
    let container = Container::new().command(&["/suid/id", "-u"]).user("web");
    let suid = container.layer().join("suid/id");
    std::fs::create_dir(container.layer().join("suid")).unwrap();
    std::fs::copy(crate::container::BUSYBOX, &suid).unwrap();
    std::fs::set_permissions(&suid, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    assert_eq!(container.run().stdout, "33\n");
}

fn the_filter_is_installed() {
    assert_eq!(status("", "Seccomp:"), "2");
    let output = Container::shell("mount -t tmpfs none /tmp; hostname other").run();
    assert!(output.stderr.contains("mount"), "{output:?}");
    assert!(output.stderr.contains("hostname"), "{output:?}");
}

fn the_kernel_answers_by_the_filter() {
    let programs = isolazi_agent::seccomp::default_profile().unwrap();
    let child = fork_into(CloneFlags::empty(), None, || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        for program in &programs {
            isolazi_agent::sys::filter::install(&program.0).unwrap();
        }
        let namespace = std::fs::File::open("/proc/self/ns/uts").unwrap();
        let flags = nix::mount::MsFlags::empty();
        let mounted = nix::mount::mount(Some("x"), "/tmp", Some("tmpfs"), flags, None::<&str>);
        assert_eq!(mounted, Err(Errno::EPERM));
        assert_eq!(nix::mount::umount("/"), Err(Errno::EPERM));
        assert_eq!(nix::unistd::sethostname("x"), Err(Errno::EPERM));
        assert_eq!(nix::unistd::pivot_root(".", "."), Err(Errno::EPERM));
        assert_eq!(
            nix::sched::unshare(CloneFlags::CLONE_NEWUTS),
            Err(Errno::EPERM)
        );
        let joined = nix::sched::setns(&namespace, CloneFlags::CLONE_NEWUTS);
        assert_eq!(joined, Err(Errno::EPERM));
        assert_eq!(
            nix::kmod::delete_module(c"x", nix::kmod::DeleteModuleFlags::empty()),
            Err(Errno::EPERM)
        );
        let by_clone3 = fork_into(CloneFlags::empty(), None, || 0);
        assert_eq!(by_clone3.map(drop), Err(Errno::ENOSYS));
        for (family, answer) in [
            (AddressFamily::Vsock, Err(Errno::EPERM)),
            (AddressFamily::Alg, Err(Errno::EPERM)),
            (AddressFamily::Inet, Ok(())),
            (AddressFamily::Unix, Ok(())),
        ] {
            let made = socket(family, SockType::Datagram, SockFlag::empty(), None);
            assert_eq!(made.map(drop), answer, "{family:?}");
        }
        0
    })
    .unwrap();
    let status = nix::sys::wait::waitpid(child.pid, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child.pid, 0));
}

fn id(user: &str) -> Output {
    let script = "echo $(id -u):$(id -g):$(id -G):$HOME";
    Container::shell(script).user(user).run()
}

fn users_by_name_and_number() {
    assert_eq!(id("").stdout, "0:0:0:/root\n");
    assert_eq!(id("web").stdout, "33:34:34 40:/var/www\n");
    assert_eq!(id("33").stdout, "33:34:34 40:/var/www\n");
    assert_eq!(id("web:logs").stdout, "33:40:40:/var/www\n");
    assert_eq!(id("1234").stdout, "1234:0:0:/\n");
    assert_eq!(id("1234:5678").stdout, "1234:5678:5678:/\n");
}

fn a_user_that_is_not_there() {
    let error = Container::shell("true").user("nobody").refused();
    assert_eq!(error.exit_code(), 125);
    assert!(error.to_string().contains("nobody"), "{error}");
}

fn the_environment_is_completed() {
    let output = Container::new().command(&["env"]).run();
    let mut variables: Vec<_> = output.stdout.lines().collect();
    variables.sort_unstable();
    assert_eq!(
        variables,
        [
            "HOME=/root",
            "HOSTNAME=box",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    );
}

fn the_environment_of_the_plan_wins() {
    let variables = ["PATH=/bin", "HOME=/tmp", "HOSTNAME=x", "A=1", "A=2"];
    let output = Container::new().command(&["env"]).env(&variables).run();
    assert_eq!(output.stdout, "PATH=/bin\nHOME=/tmp\nHOSTNAME=x\nA=2\n");
}

fn namespaces_are_its_own() {
    let script = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done; \
                  hostname; echo $$";
    let output = Container::shell(script).run();
    let mut lines = output.stdout.lines();
    for name in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(lines.next(), own.to_str(), "{name}");
    }
    assert_eq!(lines.next(), Some("box"));
    assert_eq!(lines.next(), Some("1"));
}

fn signals_are_as_programs_expect() {
    // This process, being written in Rust, ignores SIGPIPE.
    assert_eq!(status("", "SigIgn"), NONE);
    assert_eq!(status("", "SigBlk"), NONE);
}

fn the_session_is_its_own() {
    let output = Container::new().command(&["cat", "/proc/self/stat"]).run();
    let fields: Vec<_> = output.stdout.split(' ').collect();
    // pid, parent, group, session, by proc_pid_stat(5).
    assert_eq!(
        [fields[0], fields[3], fields[4], fields[5]],
        ["1", "0", "1", "1"]
    );
    assert_eq!(Container::shell("umask").run().stdout, "0022\n");
}

fn the_launchers_death_is_its_own() {
    let container = Container::new().command(&["sleep", "1000"]).user("web");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let child = fork_into(CloneFlags::empty(), None, || {
        let running = container.start().unwrap();
        writer
            .write_all(&running.launched.pid.as_raw().to_ne_bytes())
            .unwrap();
        0
    })
    .unwrap();
    drop(writer);
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::from_ne_bytes(pid));
    nix::sys::wait::waitpid(child.pid, None).unwrap();
    // Whether it has been waited for already is up to the machine's init.
    if let Ok(orphan) = pidfd_open(pid) {
        let mut polled = [PollFd::new(orphan.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::from(5000_u16)), Ok(1));
    }
}
