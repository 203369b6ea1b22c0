//! QEMU as it is to run on this host: by what means, and as whom.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::accel::{self, Accelerator};
use super::command::{QemuConfig, arguments, kernel_parameters, model};
use super::confine::Confinement;
use super::handed::Handed;
use super::helper;
use super::user::User;
use crate::machine::{GuestArch, MachineError};

/// With working virtualization a kernel panics well within this.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The program, and what it boots.
#[derive(Debug)]
pub(super) struct Hypervisor {
    program: PathBuf,
    kernel: PathBuf,
    pub(super) arch: GuestArch,
    pub(super) accelerator: Accelerator,
    pub(super) cpus: usize,
    /// As whom it runs, where that is not the caller.
    user: Option<User>,
}

impl Hypervisor {
    /// The fastest that works here, as `user` where that is possible.
    /// `memory` keeps what was found out; `cpus` are how many processors the guest is to
    /// have, all of the host's where that is not said.
    pub(super) async fn choose(
        program: PathBuf,
        kernel: PathBuf,
        user: Option<&User>,
        memory: &Path,
        cpus: Option<usize>,
    ) -> Self {
        let version = accel::version(&program);
        let user = user.filter(|_| can_be_executed(&program));
        let mut chosen = Self {
            program,
            kernel,
            arch: GuestArch::current(),
            accelerator: Accelerator::Kvm,
            cpus: 1,
            user: user.and_then(|user| user.using(Path::new(accel::KVM))),
        };
        let tried = async { chosen.runs_a_kernel().await.unwrap_or(false) };
        chosen.accelerator = accel::choose(chosen.arch, memory, tried).await;
        match chosen.accelerator {
            Accelerator::Tcg => chosen.user = user.cloned(),
            Accelerator::Kvm if user.is_some() && chosen.user.is_none() => crate::output::warning(
                "QEMU runs as root, because only root may use /dev/kvm; let a group use it: chgrp kvm /dev/kvm && chmod 660 /dev/kvm",
            ),
            Accelerator::Kvm => {}
        }
        let host_cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = cpus.unwrap_or(host_cpus);
        chosen.cpus = accel::processors(chosen.accelerator, version.await, wanted);
        if cpus.is_some_and(|wanted| wanted > chosen.cpus) {
            crate::output::warning(
                "the machine has one processor, as QEMU before 8.1 cannot translate for several; install a later one, or let it use /dev/kvm",
            );
        }
        chosen
    }

    /// A file that it reads.
    pub(super) fn file(&self, path: &Path) -> Result<Handed, MachineError> {
        Handed::to_read(path, self.user.as_ref())
    }

    /// The kernel, for it to read.
    pub(super) fn kernel(&self) -> Result<Handed, MachineError> {
        self.file(&self.kernel)
    }

    /// The program with nothing of the host's but what it is handed, and what it has
    /// to open anew: the kernel, `files`, and the processor.
    pub(super) fn command(&self, files: &[&Path]) -> Result<Command, MachineError> {
        let mut confinement = Confinement {
            read: vec![self.kernel.clone()],
            user: self.user.clone(),
            // What containers reach outside, QEMU reaches for them.
            tcp: true,
            ..Confinement::default()
        };
        confinement.read.extend(files.iter().map(PathBuf::from));
        confinement.read.extend(resolver_folders());
        if self.accelerator == Accelerator::Kvm {
            confinement.write.push(accel::KVM.into());
        }
        let mut command = confinement.command(&self.program)?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Whether the kernel gets to its panic by KVM, upon which it resets the machine and
    /// `-no-reboot` ends QEMU.
    async fn runs_a_kernel(&self) -> Result<bool, MachineError> {
        let kernel = self.kernel()?;
        let mut command = self.command(&[])?;
        command
            .args("-nodefaults -no-user-config -no-reboot -display none".split(' '))
            .args(model(self.arch))
            .args("-accel kvm -cpu host -m 256M".split(' '))
            .arg("-kernel")
            .arg(kernel.path())
            .args(["-append", kernel_parameters(self.arch)])
            .args("-chardev stdio,id=console -device virtio-serial-pci".split(' '))
            .args(["-device", "virtconsole,chardev=console"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        helper::die_with_us(&mut command);
        crate::sys::hand_down(&mut command, vec![kernel.into()]);
        let spawned = command.spawn();
        let child = spawned.map_err(MachineError::io("start", &self.program))?;
        Ok(
            match tokio::time::timeout(PROBE_PATIENCE, child.wait_with_output()).await {
                Ok(Ok(output)) => {
                    let console = String::from_utf8_lossy(&output.stdout);
                    output.status.success() && console.contains("Kernel panic")
                }
                _ => false,
            },
        )
    }

    /// Boots the machine. `initrd` is where its initramfs lies.
    pub(super) fn start(&self, config: QemuConfig, initrd: &Path) -> Result<Child, MachineError> {
        let mut command = self.command(&[initrd])?;
        command.args(arguments(&config)).stdout(Stdio::null());
        crate::sys::hand_down(&mut command, config.into_descriptors());
        command
            .spawn()
            .map_err(MachineError::io("start", &self.program))
    }
}

/// Where the host's resolver is named, for the names that containers ask for. Folders,
/// as the file is replaced when the resolver changes.
fn resolver_folders() -> Vec<PathBuf> {
    const NAMED: &str = "/etc/resolv.conf";
    let named = Path::new(NAMED);
    let real = std::fs::canonicalize(named).ok();
    let files = [Some(named.to_owned()), real];
    let folders = files.into_iter().flatten();
    folders
        .filter_map(|it| it.parent().map(Path::to_owned))
        .collect()
}

/// By somebody who is not root; the log says how to make it so.
fn can_be_executed(program: &Path) -> bool {
    let can = User::can_execute(program);
    if !can {
        crate::output::warning(&format!(
            "QEMU runs as root, because only root can execute {}; install it where everybody can",
            program.display()
        ));
    }
    can
}
