//! What a container sees as files.

use std::os::unix::fs::{MetadataExt, symlink};

use crate::cases;
use crate::container::Container;

cases![
    mounts_have_their_restrictions,
    devices_are_the_harmless_ones,
    kernel_files_are_masked,
    kernel_settings_are_read_only,
    low_ports_need_no_privilege,
    loopback_is_up,
    the_cgroup_is_its_own_and_read_only,
    changes_go_to_the_upper_folder,
    binds_show_folders_and_files,
    a_read_only_bind_is_so_all_the_way_down,
    binds_are_not_for_devices,
    etc_files_are_shown,
    etc_files_are_shown_through_the_images_links,
    the_working_directory_is_made,
    no_descriptor_leaks,
    many_layers_fit,
    long_paths_fit,
    limits_are_set,
    devices_are_limited_on_v1,
    devices_are_limited_on_v2,
];

fn mount_options(path: &str) -> Vec<String> {
    let output = Container::new().command(&["cat", "/proc/mounts"]).run();
    let line = output
        .stdout
        .lines()
        .find(|it| it.split(' ').nth(1) == Some(path));
    let options = line.unwrap_or_else(|| panic!("{path} in {}", output.stdout));
    let options = options.split(' ').nth(3).unwrap();
    options.split(',').map(str::to_owned).collect()
}

fn mounts_have_their_restrictions() {
    let expected: [(&str, &[&str]); 9] = [
        ("/", &["rw", "nodev"]),
        ("/proc", &["rw", "nosuid", "nodev", "noexec"]),
        ("/dev", &["rw", "nosuid", "size=65536k", "mode=755"]),
        (
            "/dev/pts",
            &[
                "rw",
                "nosuid",
                "noexec",
                "gid=5",
                "mode=620",
                "ptmxmode=666",
            ],
        ),
        (
            "/dev/shm",
            &["rw", "nosuid", "nodev", "noexec", "size=65536k"],
        ),
        ("/dev/mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
        ("/sys/fs/cgroup", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", &["ro", "nosuid", "nodev", "noexec"]),
    ];
    for (path, options) in expected {
        let found = mount_options(path);
        for option in options {
            assert!(
                found.iter().any(|it| it == option),
                "{option} of {path}: {found:?}"
            );
        }
    }
}

fn devices_are_the_harmless_ones() {
    let script = "cd /dev; ls; stat -c '%n %t:%T %a' null zero full random urandom tty; \
                  for l in fd stdin stdout stderr ptmx; do readlink $l; done; stat -c %a shm; \
                  echo lost > null && head -c 0 zero; ls pts";
    let output = Container::shell(&script.replace("head", "busybox head")).run();
    let expected = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\n\
                    urandom\nzero\nnull 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\n\
                    urandom 1:9 666\ntty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\n\
                    /proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n1777\nptmx\n";
    assert_eq!(output.stdout, expected, "{}", output.stderr);
}

fn kernel_files_are_masked() {
    let script = "for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi \
                  timer_list timer_stats; do p=/proc/$f; \
                  if [ -d $p ]; then ls -A $p; touch $p/x 2>/dev/null && echo writable $p; \
                  elif [ -e $p ]; then cat $p; fi; done; \
                  ls -A /sys/firmware; for c in /sys/devices/system/cpu/cpu*/thermal_throttle; \
                  do [ -d $c ] && ls -A $c; done; true";
    let output = Container::shell(script).run();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}

fn kernel_settings_are_read_only() {
    let script = "(echo x > /proc/sys/kernel/hostname) 2>&1; (echo x > /sys/kernel/x) 2>&1";
    let output = Container::shell(script).run();
    assert_eq!(output.stdout.matches("Read-only").count(), 2, "{output:?}");
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"] {
        if std::path::Path::new(path).exists() {
            assert!(mount_options(path).iter().any(|it| it == "ro"), "{path}");
        }
    }
}

fn low_ports_need_no_privilege() {
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start \
                  /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(Container::shell(script).run().stdout, "0\n0\t2147483647\n");
}

fn loopback_is_up() {
    let script = "echo hello | busybox nc -l -p 80 & \
                  until busybox nc 127.0.0.1 80 2>/dev/null; do :; done";
    assert_eq!(Container::shell(script).user("web").run().stdout, "hello\n");
}

fn the_cgroup_is_its_own_and_read_only() {
    let script = "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>&1; \
                  find=$(busybox find /sys/fs/cgroup -name cgroup.procs); \
                  for f in $find; do cat $f | busybox head -1; done";
    let output = Container::shell(script).run();
    assert!(output.stdout.contains("Read-only"), "{output:?}");
    // Each hierarchy shows the container's own group only, of which it is the root.
    let (groups, procs) = output.stdout.split_once("mkdir").unwrap();
    let ours: Vec<_> = groups.lines().filter(|it| it.ends_with(":/")).collect();
    assert!(ours.len() > 1, "{groups}");
    assert!(procs.lines().skip(1).all(|it| it == "1"), "{procs}");
}

fn changes_go_to_the_upper_folder() {
    let container = Container::shell("echo new > /file; mkdir /folder; echo more >> /etc/passwd");
    assert_eq!(container.run().code, 0);
    assert_eq!(
        std::fs::read_to_string(container.upper().join("file")).unwrap(),
        "new\n"
    );
    assert!(container.upper().join("folder").is_dir());
    let image = std::fs::read_to_string(container.layer().join("etc/passwd")).unwrap();
    assert!(!image.contains("more"));
}

fn binds_show_folders_and_files() {
    let container = Container::shell("cat /data/deep/x /conf; echo back > /data/deep/y");
    let folder = container.scratch("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("x"), "x\n").unwrap();
    let file = container.scratch("file");
    std::fs::write(&file, "conf\n").unwrap();
    let container = container
        .bind(&folder, "/data/deep", false)
        .bind(&file, "/conf", true);
    assert_eq!(container.run().stdout, "x\nconf\n");
    assert_eq!(std::fs::read_to_string(folder.join("y")).unwrap(), "back\n");
}

fn a_read_only_bind_is_so_all_the_way_down() {
    // In a mount namespace of its own, for the mount below the source.
    in_private_mounts(|| {
        let container = Container::shell("touch /data/x; touch /data/below/x; ls /data/below");
        let folder = container.scratch("shared");
        std::fs::create_dir_all(folder.join("below")).unwrap();
        let below = folder.join("below");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), flags, None::<&str>).unwrap();
        std::fs::write(below.join("seen"), "").unwrap();
        let container = container.bind(&folder, "/data", true);
        let output = container.run();
        assert_eq!(output.stdout, "seen\n");
        assert_eq!(output.stderr.matches("Read-only").count(), 2, "{output:?}");
        nix::mount::umount(&below).unwrap();
    });
}

fn in_private_mounts(body: impl FnOnce()) {
    use nix::sched::CloneFlags;
    let child = isolazi_agent::sys::process::fork_into(CloneFlags::CLONE_NEWNS, None, || {
        isolazi_agent::sys::mount::make_all_private().unwrap();
        body();
        0
    })
    .unwrap();
    let status = nix::sys::wait::waitpid(child.pid, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child.pid, 0));
}

fn binds_are_not_for_devices() {
    let container = Container::shell("cat /data/null || echo refused");
    let folder = container.scratch("shared");
    std::fs::create_dir(&folder).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(
        &folder.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        mode,
        null,
    )
    .unwrap();
    assert_eq!(
        container.bind(&folder, "/data", false).run().stdout,
        "refused\n"
    );
}

fn etc_files_are_shown() {
    let container = Container::shell("cat /etc/hostname; echo y >> /etc/hosts; cat /etc/hosts")
        .etc("hostname", "box\n")
        .etc("hosts", "x\n");
    assert_eq!(container.run().stdout, "box\nx\ny\n");
}

fn etc_files_are_shown_through_the_images_links() {
    let container = Container::new().command(&["cat", "/etc/resolv.conf", "/run/stub.conf"]);
    symlink(
        "../run/stub.conf",
        container.layer().join("etc/resolv.conf"),
    )
    .unwrap();
    assert_eq!(container.etc("resolv.conf", "x\n").run().stdout, "x\nx\n");
}

fn the_working_directory_is_made() {
    let container = Container::new().command(&["pwd"]).cwd("/srv/app/data");
    assert_eq!(container.run().stdout, "/srv/app/data\n");
    let made = std::fs::metadata(container.upper().join("srv/app/data")).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o755);
    // Relative commands are found from there.
    let container = Container::new().command(&["./tool"]).cwd("/opt");
    std::fs::create_dir(container.layer().join("opt")).unwrap();
    symlink("/bin/true", container.layer().join("opt/tool")).unwrap();
    // Busybox does not know an applet `tool`, but it was found and ran.
    assert_eq!(container.run().code, 127);
}

fn no_descriptor_leaks() {
    let _leak = std::fs::File::open("/etc").unwrap();
    let raw = nix::unistd::dup(std::io::stdin()).unwrap();
    let output = Container::new().command(&["ls", "/proc/self/fd"]).run();
    drop(raw);
    // The fourth is the folder that ls reads.
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
}

fn many_layers_fit() {
    let mut container = Container::shell("cat /from; ls /marks | wc -l");
    for number in 0..120 {
        let layer = container.scratch(&format!("{number:0>64}"));
        std::fs::create_dir_all(layer.join("marks")).unwrap();
        std::fs::write(layer.join("marks").join(number.to_string()), "").unwrap();
        std::fs::write(layer.join("from"), format!("{number}\n")).unwrap();
        container.plan.rootfs.lower.insert(0, layer);
    }
    assert_eq!(container.run().stdout, "119\n120\n");
}

/// The kernel's interface by options takes no more than 255 bytes for one.
fn long_paths_fit() {
    let mut container = Container::shell("cat /from; touch /new");
    let long = container.scratch(&"long".repeat(60));
    for number in 0..40 {
        let layer = long.join(format!("{number:0>200}"));
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join("from"), format!("{number}\n")).unwrap();
        container.plan.rootfs.lower.insert(0, layer);
    }
    assert_eq!(container.run().stdout, "39\n");
    assert!(container.upper().join("new").exists());
}

fn limits_are_set() {
    let container = Container::new().command(&["sleep", "1000"]);
    let running = container.start().unwrap();
    let groups = isolazi_agent::cgroup::Cgroup::of_process(running.launched.pid);
    let limits: Vec<_> = groups
        .hierarchies()
        .iter()
        .filter_map(|it| std::fs::read_to_string(it.folder.join("pids.max")).ok())
        .collect();
    running.kill();
    assert_eq!(limits, ["64\n"]);
}

fn devices_are_limited_on_v1() {
    let container = Container::new().command(&["sleep", "1000"]);
    let running = container.start().unwrap();
    let groups = isolazi_agent::cgroup::Cgroup::of_process(running.launched.pid);
    let list = |folder: &std::path::Path| std::fs::read_to_string(folder.join("devices.list"));
    let lists: Vec<_> = groups
        .hierarchies()
        .iter()
        .filter_map(|it| list(&it.folder).ok())
        .collect();
    running.kill();
    for list in lists {
        assert!(
            !list.starts_with('a') && list.contains("c 1:3 rwm"),
            "{list}"
        );
    }
}

/// The unified hierarchy takes the program also where v1 has the controllers.
fn devices_are_limited_on_v2() {
    let container = Container::new();
    let group = isolazi_agent::cgroup::Cgroup::create(&container.plan.cgroup).unwrap();
    let Some(unified) = group.hierarchies().iter().find(|it| it.is_unified()) else {
        println!("skipped: this machine has no cgroup v2");
        return;
    };
    isolazi_agent::cgroup::devices::limit_unified(&unified.folder, &[]).unwrap();
    let folder = std::fs::File::open(&unified.folder).unwrap();
    let made = container.scratch("device");
    let child = isolazi_agent::sys::process::fork_into(
        nix::sched::CloneFlags::empty(),
        Some(std::os::fd::AsFd::as_fd(&folder)),
        || {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            let open = |path: &str| std::fs::File::open(path).map_err(|it| it.raw_os_error());
            for harmless in ["/dev/null", "/dev/urandom", "/dev/ptmx"] {
                open(harmless).unwrap();
            }
            for (kind, number) in [
                (SFlag::S_IFCHR, makedev(1, 11)),
                (SFlag::S_IFBLK, makedev(7, 0)),
            ] {
                mknod(&made, kind, Mode::S_IRUSR, number).unwrap();
                assert_eq!(open(made.to_str().unwrap()).unwrap_err(), Some(libc::EPERM));
                std::fs::remove_file(&made).unwrap();
            }
            0
        },
    )
    .unwrap();
    let status = nix::sys::wait::waitpid(child.pid, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child.pid, 0));
}
