//! The file systems of a container as the kernel sees them, and what is shared
//! with the machine below a folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{same, tool};
use isolazi_tests::world::Container;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            mounts_are_all_as_they_should_be,
            descriptors_do_not_leak_into_exec,
            mounts_below_a_folder_are_shared_as_asked,
            read_only_reaches_as_far_as_asked,
            propagation_that_cannot_be_is_refused,
        ],
        NativeOnly: [
            what_is_not_shared_is_not_passed_on,
        ],
    }
}

/// A line of mountinfo: options of the mount, how it is shared, the kind of file
/// system, and its options.
#[derive(Debug)]
struct Mount {
    options: Vec<String>,
    shared: String,
    kind: String,
    more: Vec<String>,
}

fn mounts(table: &str) -> Result<BTreeMap<String, Mount>> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let parse = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let system: Vec<&str> = system.split(' ').collect();
        let mount = Mount {
            options: list(fields.get(5)?),
            shared: fields.get(6..)?.join(" "),
            kind: (*system.first()?).to_owned(),
            more: list(system.last()?),
        };
        Some(((*fields.get(4)?).to_owned(), mount))
    };
    let parse = |line| parse(line).with_context(|| format!("a line {line:?}"));
    table.lines().map(parse).collect()
}

fn mounts_are_all_as_they_should_be(world: &World) -> Result<()> {
    let script = "cat /proc/self/mountinfo; echo; \
        for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do ls -d /proc/$f; done 2>/dev/null; \
        for f in /sys/firmware /sys/devices/virtual/powercap /sys/fs/selinux; do ls -d $f; done 2>/dev/null; true";
    let said = world.sh(script).output()?.success()?.stdout_text();
    let (table, hidden) = said.split_once("\n\n").context("two parts")?;
    let mounts = mounts(table)?;
    let inert = "nosuid,nodev,noexec";
    for (at, kind, options, more) in [
        ("/", "overlay", "rw,nodev", ""),
        ("/proc", "proc", &format!("rw,{inert}")[..], ""),
        ("/dev", "tmpfs", "rw,nosuid", "size=65536k,mode=755"),
        (
            "/dev/pts",
            "devpts",
            "rw,nosuid,noexec",
            "gid=5,mode=620,ptmxmode=666",
        ),
        ("/dev/shm", "tmpfs", &format!("rw,{inert}"), "size=65536k"),
        ("/dev/mqueue", "mqueue", &format!("rw,{inert}"), ""),
        ("/sys", "sysfs", &format!("ro,{inert}"), ""),
        ("/sys/fs/cgroup", "", &format!("ro,{inert}"), ""),
        ("/proc/sys", "proc", &format!("ro,{inert}"), ""),
        ("/proc/irq", "proc", &format!("ro,{inert}"), ""),
        ("/proc/bus", "proc", &format!("ro,{inert}"), ""),
        ("/proc/fs", "proc", &format!("ro,{inert}"), ""),
        ("/proc/sysrq-trigger", "proc", &format!("ro,{inert}"), ""),
        ("/etc/hosts", "", "rw,nosuid,nodev", ""),
    ] {
        let Some(mount) = mounts.get(at) else {
            // Some kernels have no such thing, and none has the others.
            ensure!(at.starts_with("/proc/"), "{at} is no mount: {table}");
            continue;
        };
        let has = |list: &[String], wanted: &str| {
            let mut wanted = wanted.split(',').filter(|it| !it.is_empty());
            wanted.all(|it| list.iter().any(|option| option == it))
        };
        let fits = has(&mount.options, options) && has(&mount.more, more);
        ensure!(fits && mount.kind.contains(kind), "{at} is {mount:?}");
    }
    let dev = &mounts["/dev"];
    ensure!(!dev.options.contains(&"relatime".to_owned()), "{dev:?}");
    for (at, mount) in &mounts {
        ensure!(mount.shared.is_empty(), "{at} is shared: {mount:?}");
        let below = at.starts_with("/sys/") && !at.starts_with("/sys/fs/cgroup/");
        ensure!(
            !below || mount.options.contains(&"ro".to_owned()),
            "{at}: {mount:?}"
        );
    }
    for path in hidden.lines() {
        let cover = mounts
            .get(path)
            .with_context(|| format!("{path} is bare"))?;
        same(path, &cover.kind.as_str(), &"tmpfs")?;
    }
    Ok(())
}

fn descriptors_do_not_leak_into_exec(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    // `ls` itself has the folder open as 3.
    for options in [&[][..], &["-i"], &["--privileged"], &["-u", "alice"]] {
        let output = container.exec(options, &["ls", "/proc/self/fd"]).output()?;
        output.success()?.stdout_is("0\n1\n2\n3\n")?;
    }
    let output = container.exec(&["-t"], &["ls", "/proc/self/fd"]).output()?;
    let seen = output.success()?.stdout_text();
    same("with a terminal", &seen.split_whitespace().count(), &4)?;
    let output = container.exec(&[], &["ls", "/proc/1/fd"]).output()?;
    output.stdout_is("0\n1\n2\n")?;
    Ok(())
}

/// A folder of this host in whose mount others are shared. In the guest all are.
struct Folder {
    folder: tempfile::TempDir,
    is_mounted: bool,
}

impl Folder {
    fn shared(world: &World, how: &str) -> Result<Self> {
        let folder = world.temp()?;
        let mut shared = Self {
            folder,
            is_mounted: false,
        };
        if !world.is_vm() {
            let path = shared.path().display().to_string();
            tool("mount", ["-t", "tmpfs", "isolazi-test", &path])?;
            shared.is_mounted = true;
            tool("mount", [how, &path])?;
        }
        Ok(shared)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn at(&self, rest: &str) -> String {
        format!("{}:/mnt{rest}", self.path().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mounted {
            let path = self.path().display().to_string();
            // What is left of it shows as left behind.
            drop(tool("umount", ["-R", &path]));
        }
    }
}

/// A container that has mounted something below the folder, where others see it.
fn mounter<'a>(world: &'a World, folder: &Folder) -> Result<Container<'a>> {
    let options = ["--privileged", "-v", &folder.at(":rshared")];
    let container = world.start(&options, &["sleep", "1000"])?;
    let script = "mkdir /mnt/sub && mount -t tmpfs none /mnt/sub && echo below >/mnt/sub/file";
    let mount = container.exec(&[], &["sh", "-c", script]);
    mount.output()?.success()?;
    Ok(container)
}

fn unmount(mounter: &Container<'_>) -> Result<()> {
    mounter
        .exec(&[], &["umount", "/mnt/sub"])
        .output()?
        .success()?;
    Ok(())
}

const SEEN: [&str; 3] = ["sh", "-c", "ls /mnt/sub 2>/dev/null; true"];

fn mounts_below_a_folder_are_shared_as_asked(world: &World) -> Result<()> {
    let folder = Folder::shared(world, "--make-shared")?;
    let slave = world.start(&["-v", &folder.at(":ro,rslave")], &["sleep", "1000"])?;
    let private = world.start(&["-v", &folder.at("")], &["sleep", "1000"])?;
    let mounter = mounter(world, &folder)?;
    let seen = |container: &Container<'_>| -> Result<String> {
        let output = container.exec(&[], &SEEN).output()?;
        Ok(output.success()?.stdout_text())
    };
    same("a slave", &seen(&slave)?, &"file\n".to_owned())?;
    same("a private mount", &seen(&private)?, &String::new())?;
    if !world.is_vm() {
        ensure!(folder.path().join("sub/file").exists(), "not on the host");
    }
    let mounts = slave.inspect()?["Mounts"].take();
    same("Propagation", &mounts[0]["Propagation"], &json!("rslave"))?;
    same("RW", &mounts[0]["RW"], &json!(false))?;
    unmount(&mounter)?;
    same("after it is unmounted", &seen(&slave)?, &String::new())?;
    // What is mounted in a slave stays there.
    let source = folder.path().display();
    let mount = format!("type=bind,src={source},dst=/mnt,bind-propagation=slave");
    let slave = world.start(&["--privileged", "--mount", &mount], &["sleep", "1000"])?;
    let inner = slave.exec(&[], &["mount", "-t", "tmpfs", "none", "/mnt/sub"]);
    inner.output()?.success()?;
    let script = "grep -c ' /mnt/sub ' /proc/self/mountinfo; true";
    let output = mounter.exec(&[], &["sh", "-c", script]).output()?;
    output.stdout_is("0\n")?;
    Ok(())
}

fn read_only_reaches_as_far_as_asked(world: &World) -> Result<()> {
    let folder = Folder::shared(world, "--make-shared")?;
    let mounter = mounter(world, &folder)?;
    let script = "(echo x >/mnt/top) 2>/dev/null && echo top; (echo x >/mnt/sub/new) 2>/dev/null && echo below; ls /mnt/sub/file 2>/dev/null; true";
    let source = folder.path().display();
    let bind = format!("type=bind,src={source},dst=/mnt,readonly");
    let mut mounts = vec![
        (",bind-propagation=rslave", "/mnt/sub/file\n"),
        (
            ",bind-propagation=slave,bind-recursive=enabled",
            "/mnt/sub/file\n",
        ),
        (
            ",bind-propagation=rslave,bind-recursive=writable",
            "below\n/mnt/sub/file\n",
        ),
        (",bind-propagation=rslave,bind-recursive=disabled", ""),
    ];
    // A folder that nobody may write to is shared with the guest by itself, and
    // what others mount in theirs is not there.
    if !world.is_vm() {
        let forced = ",bind-propagation=rprivate,bind-recursive=readonly";
        mounts.extend([("", "/mnt/sub/file\n"), (forced, "/mnt/sub/file\n")]);
    }
    for (more, said) in mounts {
        let mount = format!("{bind}{more}");
        let output = world
            .run_with(&["--mount", &mount], ["sh", "-c", script])
            .output()?;
        output.success()?.stdout_is(said).context(mount)?;
    }
    let output = world
        .run_with(&["-v", &folder.at(":ro,rslave,z")], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("/mnt/sub/file\n")?;
    unmount(&mounter)
}

fn propagation_that_cannot_be_is_refused(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let source = folder.path().display();
    for (options, said) in [
        (["-v", "data:/mnt:rshared"], "for folders of the host"),
        (["-v", &format!("{source}:/mnt:public")], "'public'"),
        (
            [
                "--mount",
                &format!("type=bind,src={source},dst=/mnt,bind-recursive=readonly"),
            ],
            "needs readonly",
        ),
        (
            [
                "--mount",
                &format!("type=bind,src={source},dst=/mnt,bind-propagation=x"),
            ],
            "rslave or rprivate",
        ),
    ] {
        let output = world.run_with(&options, ["true"]).output()?;
        output.fails_with(125, said)?;
    }
    Ok(())
}

fn what_is_not_shared_is_not_passed_on(world: &World) -> Result<()> {
    let folder = Folder::shared(world, "--make-private")?;
    for (propagation, said) in [
        (":rshared", "is not shared, so it cannot be rshared"),
        (":slave", "is neither shared nor a slave"),
    ] {
        let container = world.container();
        let run = world.isolazi(["run", "--name", container.name(), "-v"]);
        let run = run.args([&folder.at(propagation), &world.busybox(), "true"]);
        run.output()?.fails_with(125, said)?;
        ensure!(!container.is_listed()?, "{propagation} left a container");
    }
    Ok(())
}
