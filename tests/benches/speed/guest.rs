//! A guest of the benches' own: isolazi's QEMU and kernel with another init.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_image_builder::cpio::Archive;
use isolazi_tests::World;
use isolazi_tests::command::{eventually, tool};
use isolazi_tests::surroundings::program;

/// What the vsock helper may do beside its sockets: nothing.
const RULES: &str = r#"{"read":[],"write":[],"tcp":false}"#;

/// How the host reaches it.
pub(crate) enum Network {
    /// As the machine's.
    Machines,
    /// That, with a port of this host's that leads to one of the guest's.
    Forwarded(u16, u16),
    /// By `tap1` in the network namespace of this process.
    Tap(u32),
}

/// A guest that has been described, and can be booted again and again.
pub(crate) struct Guest {
    command_line: Vec<String>,
    helper: PathBuf,
    folder: PathBuf,
}

/// One that runs, until this is dropped.
pub(crate) struct Running {
    /// From QEMU's start to the line that was waited for.
    pub(crate) booted_in: Duration,
    _qemu: Ended,
    _helper: Ended,
}

impl Guest {
    /// In `folder`, with this content of its root. `world` has a machine that runs.
    pub(crate) fn new(
        world: &World,
        folder: &Path,
        root: Archive,
        network: Network,
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("run"))?;
        let initrd = folder.join("initrd");
        fs::write(&initrd, root.finish())?;
        let disk = world.root().join("machine/data.img");
        let copy = folder.join("data.img");
        // With its holes, which are most of it.
        let sparse = "--sparse=always".as_ref();
        tool("cp", [sparse, disk.as_os_str(), copy.as_os_str()])?;
        let kernel = world.shared().appliance.join("vmlinux");
        ensure!(kernel.exists(), "{} is not there", kernel.display());
        let changed = Changed {
            initrd: initrd.display().to_string(),
            kernel: kernel.display().to_string(),
            disk: copy.display().to_string(),
            vsock: folder.join("run/vsock-device.sock").display().to_string(),
            network,
        };
        Ok(Self {
            command_line: changed.in_its_network(&machine_command_line(world)?),
            helper: program()?,
            folder: folder.to_owned(),
        })
    }

    /// Boots it, and waits until it says `mark`.
    pub(crate) fn boot(&self, mark: &str) -> Result<Running> {
        let helper = self.start_helper()?;
        let (program, arguments) = self.command_line.split_first().context("no command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let started = Instant::now();
        let mut qemu = Ended(command.spawn()?);
        let console = qemu.0.stdout.take().context("no console")?;
        for line in BufReader::new(console).lines() {
            if line?.trim() == mark {
                return Ok(Running {
                    booted_in: started.elapsed(),
                    _qemu: qemu,
                    _helper: helper,
                });
            }
        }
        bail!("the guest ended without a word")
    }

    /// The vsock device that QEMU expects.
    fn start_helper(&self) -> Result<Ended> {
        let socket = |name: &str| self.folder.join("run").join(name);
        for name in ["vsock-device.sock", "vsock.sock"] {
            drop(fs::remove_file(socket(name)));
        }
        let helper = Command::new(&self.helper)
            .arg0("isolazi-vsock")
            .arg(RULES)
            .arg(socket("vsock-device.sock"))
            .arg(socket("vsock.sock"))
            .stdout(Stdio::null())
            .spawn()?;
        eventually(Duration::from_secs(5), "the vsock device", || {
            Ok(socket("vsock-device.sock").exists().then_some(()))
        })?;
        Ok(Ended(helper))
    }
}

/// What the guest has in place of the machine's, whose files come to QEMU open.
struct Changed {
    initrd: String,
    kernel: String,
    disk: String,
    vsock: String,
    network: Network,
}

impl Changed {
    fn in_its_network(&self, machine: &[String]) -> Vec<String> {
        let own = self.command_line(machine);
        match self.network {
            Network::Machines | Network::Forwarded(..) => own,
            Network::Tap(namespace) => {
                let inside = format!("nsenter -t {namespace} -n");
                let inside = inside.split(' ').map(str::to_owned);
                inside.chain(own).collect()
            }
        }
    }

    fn command_line(&self, machine: &[String]) -> Vec<String> {
        let mut words = machine.iter().peekable();
        let mut own: Vec<String> = words.next().cloned().into_iter().collect();
        while let Some(option) = words.next() {
            let is_value = |word: &&String| !word.starts_with('-');
            let Some(value) = words.next_if(is_value) else {
                own.push(option.clone());
                continue;
            };
            if let Some(value) = self.value(option, value) {
                own.extend([option.clone(), value]);
            }
        }
        own
    }

    /// `None` where the option is not for this guest.
    fn value(&self, option: &str, value: &str) -> Option<String> {
        Some(match option {
            "-kernel" => self.kernel.clone(),
            "-initrd" => self.initrd.clone(),
            "-add-fd" => return None,
            // Read from here.
            "-chardev" if value.starts_with("socket,id=console,") => "stdio,id=console".to_owned(),
            "-chardev" if value.starts_with("socket,id=qmp,") => "null,id=qmp".to_owned(),
            "-chardev" if value.starts_with("socket,id=vsock,") => {
                format!("socket,id=vsock,path={}", self.vsock)
            }
            "-drive" => {
                let rest = value.split_once(',').map_or("", |(_, rest)| rest);
                format!("file={},{rest}", self.disk)
            }
            "-netdev" => match self.network {
                Network::Machines => value.to_owned(),
                Network::Forwarded(here, there) => {
                    format!("{value},hostfwd=tcp:127.0.0.1:{here}-:{there}")
                }
                Network::Tap(_) => {
                    let id = value.split(',').find(|it| it.starts_with("id="));
                    let id = id.unwrap_or_default();
                    format!("tap,{id},ifname=tap1,script=no,downscript=no")
                }
            },
            _ => value.to_owned(),
        })
    }
}

/// How the machine's QEMU was started.
fn machine_command_line(world: &World) -> Result<Vec<String>> {
    let status = world.bare(["vm", "status"]).output()?.success()?;
    let said = status.stdout_text();
    let pid = said.split("process ").nth(1);
    let pid = pid.and_then(|rest| rest.split([',', ')']).next());
    let path = format!("/proc/{}/cmdline", pid.context(said.clone())?);
    let words = fs::read(&path).with_context(|| path.clone())?;
    let words = String::from_utf8(words)?;
    Ok(words
        .trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect())
}

/// A process that ends with this value.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
