//! The guest, under QEMU.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::stand_in::dying_with_us;
use isolazi_vsock_device::{Destination, Sockets};
use rustix::process::{Pid, Signal, kill_process};

use crate::options::Options;

/// Any that a guest can have.
const CID: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// A guest that runs.
pub(crate) struct Machine {
    qemu: Child,
    /// End by themselves when QEMU does.
    helpers: Vec<Child>,
    sockets: Vec<PathBuf>,
}

/// Cuts a guest's power.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Power(Pid);

impl Power {
    pub(crate) fn cut(self) {
        // Fails only for what has ended.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Starts the guest.
pub(crate) fn start(options: &Options) -> Result<Machine> {
    let folder = options.agent_socket.parent().context("a folder")?;
    let mut helpers = Vec::new();
    let mut sockets = Vec::new();
    let mut line: Vec<String> = Vec::new();
    let mut words = |words: &str| line.extend(words.split(' ').map(str::to_owned));
    words("-nodefaults -no-user-config -no-reboot -display none -bios qboot.rom");
    words("-machine q35,memory-backend=memory -accel tcg,thread=multi -cpu max");
    // QEMU before 8.1 cannot have more under TCG; vfkit's number counts there, not here.
    words("-smp 1");
    words(&format!("-m {}M", options.memory_mib));
    words(&format!(
        "-object memory-backend-memfd,id=memory,size={}M,share=on",
        options.memory_mib
    ));
    words("-device virtio-serial-pci -device virtconsole,chardev=console");
    words("-device virtio-blk-pci,drive=disk -device virtio-rng-pci");
    words(&format!(
        "-netdev user,id=net,net=192.168.64.0/24,host=192.168.64.1,dns=192.168.64.3 -device virtio-net-pci,netdev=net,mac={},romfile=",
        options.mac
    ));
    let vsock = folder.join("stand-in-vsock.sock");
    serve_vsock(&vsock, options)?;
    words(&format!(
        "-chardev socket,id=vsock,path={} -device vhost-user-vsock-pci,chardev=vsock",
        said(&vsock)?
    ));
    sockets.push(vsock);
    for (number, (shared, tag)) in options.shares.iter().enumerate() {
        let socket = folder.join(format!("stand-in-fs{number}.sock"));
        helpers.push(serve_folder(shared, &socket)?);
        words(&format!(
            "-chardev socket,id=fs{number},path={} -device vhost-user-fs-pci,chardev=fs{number},tag={tag}",
            said(&socket)?
        ));
        sockets.push(socket);
    }
    let paths = [
        (
            "-chardev",
            format!("file,id=console,path={}", said(&options.console_log)?),
        ),
        (
            "-drive",
            format!(
                "file={},if=none,id=disk,format=raw,discard=unmap",
                said(&options.disk)?
            ),
        ),
        ("-kernel", options.kernel.to_string_lossy().into_owned()),
        ("-initrd", options.initrd.to_string_lossy().into_owned()),
        ("-append", options.cmdline.clone()),
    ];
    for (option, value) in paths {
        line.extend([option.to_owned(), value]);
    }
    let qemu = dying_with_us(format!("qemu-system-{}", env::consts::ARCH))
        .args(line)
        .spawn()
        .context("cannot start QEMU")?;
    Ok(Machine {
        qemu,
        helpers,
        sockets,
    })
}

impl Machine {
    pub(crate) fn power(&self) -> Power {
        Power(Pid::from_child(&self.qemu))
    }

    /// Until the guest ends.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let ended = self.qemu.wait()?;
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
        ensure!(ended.success() || ended.code().is_none(), "QEMU: {ended}");
        Ok(())
    }
}

/// A comma would begin another option.
fn said(path: &Path) -> Result<String> {
    let text = path.to_str().context("a path that is not UTF-8")?;
    Ok(text.replace(',', ",,"))
}

/// Whoever connects to the agent's socket gets to the guest's port.
fn serve_vsock(device: &Path, options: &Options) -> Result<()> {
    let _ = fs::remove_file(device);
    let sockets = Sockets::listen(device, &options.agent_socket)?;
    let destination = Destination {
        cid: CID,
        port: options.agent_port,
    };
    thread::spawn(move || {
        if let Err(failure) = isolazi_vsock_device::run(sockets, destination) {
            eprintln!("vfkit (stand-in): {failure}");
        }
    });
    Ok(())
}

fn serve_folder(folder: &Path, socket: &Path) -> Result<Child> {
    let appliance = env::var_os("ISOLAZI_APPLIANCE").context("ISOLAZI_APPLIANCE is not set")?;
    let program = Path::new(&appliance).join("virtiofsd");
    let _ = fs::remove_file(socket);
    let mut command = dying_with_us(program);
    command.arg("--shared-dir").arg(folder);
    command.arg("--socket-path").arg(socket);
    command.args(
        "--sandbox none --inode-file-handles=never --cache=never --log-level error".split(' '),
    );
    // Files belong to the user of the hypervisor, as with the framework.
    for id in ["uid", "gid"] {
        command.arg(format!("--translate-{id}"));
        command.arg(format!("squash-guest:0:0:{}", u32::MAX));
    }
    let mut daemon = command.spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        if let Some(ended) = daemon.try_wait()? {
            bail!("virtiofsd: {ended}");
        }
        ensure!(Instant::now() < deadline, "virtiofsd does not listen");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(daemon)
}
