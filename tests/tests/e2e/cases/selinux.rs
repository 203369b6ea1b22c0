//! Labels of SELinux, in a machine with a policy made for it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use isolazi_tests::command::{same, tool};
use isolazi_tests::debian::{self, Machine, SCRATCH};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! { NativeOnly: [labels_of_selinux_hold] }
}

const POLICY: &str = include_str!("../../../fixtures/selinux.conf");

/// Makes an image of busybox, and prints what labels and answers there are.
const SCRIPT: &str = r#"
exec >/dev/ttyS1 2>&1 </dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin ISOLAZI_HOME=$scratch/home HOME=/root
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p $scratch/root/bin
cp "$(command -v busybox)" $scratch/root/bin/
tar -C $scratch/root -c . | "$program" import - small:1 >/dev/null
echo "enforcing: $(cat /sys/fs/selinux/enforce)"
own() {
  "$program" run --rm --network none "$@" small:1 /bin/busybox cat /proc/self/attr/current | tr '\0' '\n'
}
own
own --security-opt label=disable
own --security-opt label=type:isolazi_tests_t --security-opt label=level:s0:c1
own --security-opt label=type:closed_t
own --security-opt label=type:nowhere_t
"$program" run -d --name it --network none --security-opt label=type:isolazi_tests_t small:1 \
  /bin/busybox sleep 1000 >/dev/null
"$program" exec it /bin/busybox cat /proc/self/attr/current | tr '\0' '\n'
"$program" rm -f it >/dev/null
echo over
# What the machine's end does to this script is nobody's business.
exec >/dev/null 2>&1
echo o >/proc/sysrq-trigger
exec sleep 100
"#;

fn labels_of_selinux_hold(world: &World) -> Result<()> {
    if let Some(reason) = debian::lacks() {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    ensure!(debian::inside().is_none(), "a machine in a machine");
    let folder = world.temp()?;
    let source = folder.path().join("policy.conf");
    let policy = folder.path().join("policy");
    fs::write(&source, POLICY)?;
    let options = ["-M", "-U", "allow", "-c", "31", "-o"].map(Path::new);
    let files = [policy.as_path(), source.as_path()];
    tool("checkpolicy", options.into_iter().chain(files))?;
    let program = world.shared().program.display();
    let machine = Machine {
        folder: folder.path().join("machine"),
        prepare: format!(
            "mount -t selinuxfs selinux /sys/fs/selinux\n\
             dd if=/host{} of=/sys/fs/selinux/load bs=1M 2>/dev/null\n\
             cat >/root/run/labels.sh <<'SCRIPT'\nprogram={program} scratch={SCRATCH}\n{SCRIPT}SCRIPT\n",
            policy.display()
        ),
        begin: "/bin/sh,/run/labels.sh",
        kernel_options: "security=selinux selinux=1 enforcing=1",
    };
    let printed = machine.run()?;
    let wanted = [
        "enforcing: 1",
        "system_u:system_r:machine_t:s0-s0:c0,c1",
        "system_u:system_r:machine_t:s0-s0:c0,c1",
        "system_u:system_r:isolazi_tests_t:s0:c1",
        "isolazi: cannot execute `/bin/busybox`: Permission denied (it must be a file with execute permission for the container's user, and a security label, if it has one, must allow it)",
        "isolazi: cannot have the command confined by `system_u:system_r:nowhere_t:s0`: Invalid argument (the machine's policy has no such label: check user, role, type and level)",
        "system_u:system_r:isolazi_tests_t:s0",
        "over",
    ];
    let printed: Vec<_> = printed.lines().collect();
    same("labels", &printed, &wanted.to_vec())
}
