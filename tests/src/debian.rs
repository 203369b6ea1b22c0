//! A machine with Debian's kernel, run by systemd, for what this one may lack: version 2
//! of cgroups, their delegation to users, AppArmor, an older kernel.
//!
//! ```text
//!  these tests                     the machine (QEMU)
//!   ├─ all names of `debian::…` ──► the same tests, with the machine's own files
//!   │                               (9p, read-only; changes are on a disk)
//!   └─ each name's result ◄──────── what they print, by a serial port
//! ```
//!
//! In there the cases are like native ones. The first that is asked for boots it, and all
//! are run at once. A case can also boot a [`Machine`] of its own, for a script.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::command::{Invocation, tool};
use crate::fixture;
use crate::ordinary::USER;
use crate::surroundings::program;

/// A folder of the machine's disk, as `make-debian.sh` has it. Containers are kept there:
/// overlayfs, which all else is, does not write to itself.
pub const SCRATCH: &str = "/e2e";
/// The names of the cases to run, for the tests in there.
const INSIDE: &str = "ISOLAZI_E2E_IN_DEBIAN";
/// For all of them, where a processor is emulated.
const PATIENCE: Duration = Duration::from_secs(1500);
/// Which units the machine can do without.
const MASKED: &[&str] = &[
    "apparmor",
    "kmod-static-nodes",
    "ldconfig",
    "systemd-binfmt",
    "systemd-hwdb-update",
    "systemd-journal-catalog-update",
    "systemd-journal-flush",
    "systemd-machine-id-commit",
    "systemd-modules-load",
    "systemd-pstore",
    "systemd-random-seed",
    "systemd-sysusers",
    "systemd-tmpfiles-setup",
    "systemd-tmpfiles-setup-dev",
    "systemd-update-utmp",
];

/// Programs that make it, and run in there.
const NEEDED: &[&str] = &[
    "apparmor_parser",
    "cpio",
    "dbus-daemon",
    "depmod",
    "dpkg-deb",
    "mkfs.ext4",
    "qemu-system-x86_64",
    "systemctl",
];

/// Why there can be no such machine.
pub fn lacks() -> Option<String> {
    if inside().is_some() {
        return None;
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if env::consts::ARCH != "x86_64" || !release.lines().any(|line| line == "ID=debian") {
        return Some("needs Debian on x86_64".to_owned());
    }
    let mut needed = NEEDED.iter();
    let missing = needed.find(|program| fixture::find(program).is_none())?;
    Some(format!("{missing} is not installed"))
}

/// The cases to run, in there.
pub fn inside() -> Option<&'static [String]> {
    static NAMES: OnceLock<Option<Vec<String>>> = OnceLock::new();
    let read = || {
        let names = env::var(INSIDE).ok()?;
        Some(names.split(',').map(str::to_owned).collect())
    };
    NAMES.get_or_init(read).as_deref()
}

/// The machine, which boots when it is first needed.
#[derive(Debug)]
pub struct Debian {
    folder: PathBuf,
    expected: Mutex<Vec<String>>,
    /// Of each case, why it failed, if it did.
    results: OnceLock<Result<BTreeMap<String, Option<String>>, String>>,
}

impl Debian {
    /// One whose files are in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("debian"),
            expected: Mutex::default(),
            results: OnceLock::new(),
        }
    }

    /// Names what is to be run there, among others.
    pub fn expect<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut expected = self.expected.lock().expect("nobody panics with it");
        let named = names.filter(|name| name.starts_with("debian::"));
        expected.extend(named.map(str::to_owned));
    }

    /// How the case of this name has ended; boots the machine and runs all that are
    /// expected, the first time.
    pub fn result_of(&self, name: &str) -> Result<()> {
        let run = || self.run().map_err(|error| format!("{error:#}"));
        let results = self.results.get_or_init(run).as_ref();
        let results = results.map_err(|error| anyhow::anyhow!(error.clone()))?;
        match results.get(name) {
            Some(None) => Ok(()),
            Some(Some(failure)) => bail!("in there: {failure}"),
            None => bail!("it has not come to that in there"),
        }
    }

    fn run(&self) -> Result<BTreeMap<String, Option<String>>> {
        let names = self.expected.lock().expect("nobody panics with it").clone();
        let machine = Machine {
            folder: self.folder.clone(),
            prepare: prepare(&names)?,
            begin: "/lib/systemd/systemd,--unit=isolazi-tests.service",
            kernel_options: "",
        };
        let printed = machine.run()?;
        let results = results(&printed);
        ensure!(
            !results.is_empty(),
            "the machine has run nothing: {printed}"
        );
        Ok(results)
    }
}

/// A machine that runs a script once.
#[derive(Debug)]
pub struct Machine {
    /// For its files.
    pub folder: PathBuf,
    /// What its initramfs is to do, with busybox, before its first program begins. This
    /// machine's files are at `/host`, and its own root, to be, is at `/root`.
    pub prepare: String,
    /// Its first program, and that one's arguments after commas. It is to end by
    /// switching the machine off.
    pub begin: &'static str,
    /// Further options of the kernel's.
    pub kernel_options: &'static str,
}

impl Machine {
    /// Boots it, and waits until it is off. Returns what was printed on `/dev/ttyS1`, and
    /// where that is nothing, its console.
    pub fn run(&self) -> Result<String> {
        fs::create_dir_all(&self.folder)?;
        let file = |name: &str| self.folder.join(name);
        fs::write(file("prepare.sh"), &self.prepare)?;
        let disk = file("disk");
        fs::File::create(&disk)?.set_len(8 << 30)?;
        let quick = ["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1"];
        tool(
            "mkfs.ext4",
            quick.iter().map(Path::new).chain([disk.as_path()]),
        )?;
        let kernel = fixture::debian_kernel()?;
        let machine = Invocation::new("qemu-system-x86_64", PATIENCE).args(self.arguments(&kernel));
        machine.output()?.success()?;
        let read = |name: &str| -> Result<String> {
            let bytes = fs::read(file(name))?;
            Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
        };
        match read("printed")? {
            printed if printed.is_empty() => read("console"),
            printed => Ok(printed),
        }
    }

    fn arguments(&self, kernel: &Path) -> Vec<String> {
        let at = |path: &Path| path.display().to_string();
        let file = |name: &str| at(&self.folder.join(name));
        let command_line = format!(
            "console=ttyS0 quiet panic=-1 systemd.show_status=no modules={} prepare={} begin={} {}",
            at(&kernel.join("modules")),
            file("prepare.sh"),
            self.begin,
            self.kernel_options
        );
        let words = "-machine q35 -cpu max -smp 2 -m 3072 -nodefaults -no-reboot -display none \
                     -nic none -device virtio-rng-pci";
        let mut arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let disk = format!(
            "file={},format=raw,if=none,id=disk,cache=unsafe",
            file("disk")
        );
        for (option, value) in [
            ("-kernel", at(&kernel.join("kernel"))),
            ("-initrd", at(&kernel.join("initramfs"))),
            ("-append", command_line),
            ("-serial", format!("file:{}", file("console"))),
            ("-serial", format!("file:{}", file("printed"))),
            (
                "-fsdev",
                "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap".to_owned(),
            ),
            (
                "-device",
                "virtio-9p-pci,fsdev=host,mount_tag=host".to_owned(),
            ),
            ("-drive", disk),
            ("-device", "virtio-blk-pci,drive=disk".to_owned()),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        arguments
    }
}

/// What the machine's initramfs is to do with its files before systemd sees them. There
/// the machine's root is `/root`.
fn prepare(names: &[String]) -> Result<String> {
    let mut script = format!(
        "mount -t securityfs security /sys/kernel/security\n\
         echo 'tester:x:{USER}:{USER}::/run:/bin/sh' >>/root/etc/passwd\n\
         echo 'tester:*:20000:0:99999:7:::' >>/root/etc/shadow\n\
         mkdir -p /root/etc/systemd/system\n"
    );
    for unit in MASKED {
        writeln!(
            script,
            "ln -sf /dev/null /root/etc/systemd/system/{unit}.service"
        )?;
    }
    let unit = "[Unit]\n\
                Requires=dbus.service systemd-logind.service\n\
                After=dbus.service systemd-logind.service\n\
                SuccessAction=poweroff-force\n\
                FailureAction=poweroff-force\n\
                [Service]\n\
                Type=oneshot\n\
                TimeoutStartSec=infinity\n\
                ExecStart=/bin/sh /run/isolazi-tests.sh\n";
    let place = "/root/etc/systemd/system/isolazi-tests.service";
    writeln!(script, "cat >{place} <<'UNIT'\n{unit}UNIT")?;
    let own = env::current_exe()?;
    let variables = [
        ("PATH", env::var("PATH").unwrap_or_default()),
        ("HOME", "/root".to_owned()),
        ("CI", "true".to_owned()),
        ("TMPDIR", SCRATCH.to_owned()),
        (
            "XDG_CACHE_HOME",
            fixture::cache_home()?.display().to_string(),
        ),
        ("ISOLAZI_BIN", program()?.display().to_string()),
        (INSIDE, names.join(",")),
    ];
    writeln!(script, "cat >/root/run/isolazi-tests.sh <<'TESTS'")?;
    for (key, value) in variables {
        writeln!(script, "export {key}='{value}'")?;
    }
    let own = own.display();
    writeln!(
        script,
        "exec >/dev/ttyS1 2>&1\n'{own}' --test-threads 2 --color never\nTESTS"
    )?;
    Ok(script)
}

/// What the tests in there print: `test NAME … ok` or `FAILED`, and later, of those that
/// failed, `---- NAME ----` and why.
fn results(printed: &str) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for line in printed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["test", name, "...", outcome] = words[..] {
            let failed = (outcome != "ok").then(|| outcome.to_owned());
            found.insert(name.to_owned(), failed);
        }
    }
    for part in printed.split("---- ").skip(1) {
        let Some((name, why)) = part.split_once(" ----\n") else {
            continue;
        };
        let why = why.split("\n\n\nfailures:").next().unwrap_or(why);
        if let Some(failed) = found.get_mut(name) {
            *failed = Some(why.trim_end().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let printed = "running 2 tests\ntest debian::a   ... ok\ntest debian::b   ... FAILED\n\n\
                       failures:\n\n---- debian::b ----\nbecause\nof it\n\n\nfailures:\n    debian::b\n";
        let found = results(printed);
        assert_eq!(found["debian::a"], None);
        assert_eq!(found["debian::b"].as_deref(), Some("because\nof it"));
    }
}
