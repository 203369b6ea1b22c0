//! QEMU's command line, as a pure function of what the machine is to be.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::accel::Accelerator;
use super::handed::Handed;
use super::vsock::Device;
use crate::machine::GuestArch;

/// What QEMU is told to run. All files of the machine's are open already, so that
/// it needs none of the caller's rights.
#[derive(Debug)]
pub(super) struct QemuConfig {
    /// The machine's folder, for whoever looks at the list of processes.
    pub(super) name: PathBuf,
    pub(super) arch: GuestArch,
    pub(super) accelerator: Accelerator,
    pub(super) kernel: Handed,
    pub(super) initrd: Handed,
    pub(super) disk: Disk,
    pub(super) vsock: Device,
    /// It listens at these two.
    pub(super) qmp: Handed,
    pub(super) console: Handed,
    pub(super) cpus: usize,
    pub(super) memory_mib: u64,
}

/// The guest's disk, opened in both ways that QEMU asks for.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) to_read: Handed,
    pub(super) to_write: Handed,
}

impl QemuConfig {
    /// What QEMU has to inherit.
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        let vsock = match self.vsock {
            Device::Kernel { device, .. } => device,
            Device::VhostUser { connection } => connection,
        };
        let disk = [self.disk.to_read, self.disk.to_write];
        let others = [self.kernel, self.initrd, vsock, self.qmp, self.console];
        disk.into_iter().chain(others).map(OwnedFd::from).collect()
    }
}

/// The bus that shared folders are plugged into. A conventional bridge takes a
/// device in milliseconds, where a PCI Express port waits for its button; but the
/// `virt` machine, without ACPI, has only such ports.
const HOTPLUG_BUS: &str = "hot";

/// Where the guest finds the host, whatever the host's addresses are, and who resolves
/// names for it as the host does: addresses of QEMU's user network (`-netdev user`).
pub(super) const HOST_IN_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(super) const RESOLVER_IN_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Of sockets that others connect to.
const LISTENING: &str = ",server=on,wait=off";
/// Everything that could start another program or raise privileges is refused.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The arguments after the program's name.
pub(super) fn arguments(config: &QemuConfig) -> Vec<OsString> {
    let mut line = Line::default();
    let name = config.name.to_string_lossy();
    // In lists of options a comma is doubled (qemu(1)).
    line.option("-name", format!("guest={}", name.replace(',', ",,")));
    line.words("-nodefaults -no-user-config -no-reboot -display none");
    for word in model(config.arch) {
        line.words(word);
    }
    line.words("-machine memory-backend=memory");
    line.option("-accel", config.accelerator.option());
    line.option("-cpu", config.accelerator.cpu_model(config.arch));
    line.option("-smp", config.cpus.to_string());
    line.option("-m", format!("{}M", config.memory_mib));
    line.option("-sandbox", SANDBOX);
    // Shared, because the helpers reach into the guest's memory.
    line.option(
        "-object",
        format!(
            "memory-backend-memfd,id=memory,size={}M,share=on",
            config.memory_mib
        ),
    );
    line.option("-kernel", config.kernel.path());
    line.option("-initrd", config.initrd.path());
    let parameters = kernel_parameters(config.arch);
    line.option("-append", format!("{parameters} quiet"));
    // Not a pipe: a supervisor that comes later can connect to it again.
    line.socket("console", &config.console, LISTENING);
    line.words("-device virtio-serial-pci -device virtconsole,chardev=console");
    line.socket("qmp", &config.qmp, LISTENING);
    line.words("-mon chardev=qmp,mode=control");
    // Opened anew, the disk would take rights; of a set QEMU takes the one that fits.
    for disk in [&config.disk.to_read, &config.disk.to_write] {
        line.option("-add-fd", format!("fd={},set=1", disk.number()));
    }
    line.words("-drive file=/dev/fdset/1,if=none,id=data,format=raw,discard=unmap,cache=writeback");
    line.words("-device virtio-blk-pci,drive=data");
    match &config.vsock {
        Device::Kernel { cid, device } => {
            let device = device.number();
            let device = format!("vhost-vsock-pci,guest-cid={cid},vhostfd={device}");
            line.option("-device", device);
        }
        Device::VhostUser { connection } => {
            line.socket("vsock", connection, "");
            line.words("-device vhost-user-vsock-pci,chardev=vsock");
        }
    }
    line.words("-netdev user,id=net,ipv6=off -device virtio-net-pci,netdev=net,romfile=");
    // What the guest frees goes back to the host.
    line.words("-device virtio-balloon-pci,free-page-reporting=on");
    for device in hotplug_devices(config.arch) {
        line.option("-device", device);
    }
    line.0
}

/// QEMU's model of the machine, and what starts the kernel in it.
pub(super) fn model(arch: GuestArch) -> &'static [&'static str] {
    match arch {
        GuestArch::X86_64 => &[
            "-machine",
            "q35,smbus=off,sata=off,usb=off,i8042=off,vmport=off",
            "-bios",
            "qboot.rom",
        ],
        // QEMU itself puts the kernel into memory.
        GuestArch::Aarch64 => &["-machine", "virt,gic-version=max"],
    }
}

/// What the kernel is told: where to write, and to end the machine when it panics.
pub(super) fn kernel_parameters(arch: GuestArch) -> &'static str {
    match arch {
        GuestArch::X86_64 => "console=hvc0 panic=-1 reboot=t",
        GuestArch::Aarch64 => "console=hvc0 panic=-1",
    }
}

/// Where shared folders are plugged in, and the random number generator.
fn hotplug_devices(arch: GuestArch) -> Vec<String> {
    match arch {
        GuestArch::X86_64 => vec![
            format!("pcie-pci-bridge,id={HOTPLUG_BUS}"),
            format!("virtio-rng-pci,bus={HOTPLUG_BUS},addr=0x1f"),
        ],
        GuestArch::Aarch64 => {
            let ports = (1..=hotplug_slots(arch)).map(|slot| {
                format!("pcie-root-port,id={HOTPLUG_BUS}{slot},chassis={slot},slot={slot}")
            });
            std::iter::once("virtio-rng-pci".to_owned())
                .chain(ports)
                .collect()
        }
    }
}

/// Bus and address of a slot for shared folders.
pub(super) fn hotplug_place(arch: GuestArch, slot: u8) -> (String, String) {
    match arch {
        // Read as hexadecimal, whatever it looks like.
        GuestArch::X86_64 => (HOTPLUG_BUS.to_owned(), format!("{slot:#x}")),
        GuestArch::Aarch64 => (format!("{HOTPLUG_BUS}{slot}"), "0x0".to_owned()),
    }
}

/// How many folders can be shared in a boot.
pub(super) fn hotplug_slots(arch: GuestArch) -> u8 {
    match arch {
        // The last of the bridge holds the random number generator, so that the guest
        // gives the bridge a window at boot.
        GuestArch::X86_64 => 30,
        GuestArch::Aarch64 => 16,
    }
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn socket(&mut self, id: &str, socket: &Handed, more: &str) {
        let number = socket.number();
        self.option("-chardev", format!("socket,id={id},fd={number}{more}"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn handed() -> Handed {
        File::open("/dev/null").unwrap().into()
    }

    fn config() -> QemuConfig {
        QemuConfig {
            name: "/m,x".into(),
            arch: GuestArch::X86_64,
            accelerator: Accelerator::Tcg,
            kernel: handed(),
            initrd: handed(),
            disk: Disk {
                to_read: handed(),
                to_write: handed(),
            },
            vsock: Device::VhostUser {
                connection: handed(),
            },
            qmp: handed(),
            console: handed(),
            cpus: 2,
            memory_mib: 1024,
        }
    }

    fn values_after(name: &str, config: &QemuConfig) -> Vec<String> {
        let arguments = arguments(config);
        let pairs = arguments.windows(2).filter(|pair| pair[0] == name);
        pairs
            .map(|pair| pair[1].to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_guest_gets_what_it_needs_and_nothing_else() {
        let config = config();
        let value_after = |name| values_after(name, &config);
        assert_eq!(value_after("-name"), ["guest=/m,,x"]);
        assert_eq!(value_after("-m"), ["1024M"]);
        assert_eq!(value_after("-accel"), ["tcg,thread=multi"]);
        assert_eq!(value_after("-netdev"), ["user,id=net,ipv6=off"]);
        assert_eq!(value_after("-device").len(), 8);
        assert!(value_after("-sandbox")[0].contains("spawn=deny"));
    }

    #[test]
    fn an_arm_machine_has_a_port_for_each_folder_and_no_firmware() {
        let config = QemuConfig {
            arch: GuestArch::Aarch64,
            ..config()
        };
        let value_after = |name| values_after(name, &config);
        assert_eq!(value_after("-machine")[0], "virt,gic-version=max");
        assert_eq!(value_after("-cpu"), ["max,pauth-impdef=on"]);
        assert!(value_after("-bios").is_empty());
        assert!(!value_after("-append")[0].contains("reboot=t"));
        let devices = value_after("-device");
        let (bus, address) = hotplug_place(GuestArch::Aarch64, 16);
        let port = format!("pcie-root-port,id={bus},chassis=16,slot=16");
        assert_eq!((devices.last(), address.as_str()), (Some(&port), "0x0"));
    }

    #[test]
    fn the_kernels_vsock_needs_no_helper() {
        let config = QemuConfig {
            vsock: Device::Kernel {
                cid: 77,
                device: handed(),
            },
            ..config()
        };
        let devices = values_after("-device", &config).join(" ");
        assert!(devices.contains("vhost-vsock-pci,guest-cid=77,vhostfd="));
        assert!(!devices.contains("vhost-user-vsock"));
    }

    #[test]
    fn every_file_is_told_by_a_number_that_is_inherited() {
        let config = config();
        let line: Vec<_> = arguments(&config)
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let line = line.join(" ");
        let told = [
            format!("-kernel {}", config.kernel.path().display()),
            format!("-initrd {}", config.initrd.path().display()),
            format!("-add-fd fd={},set=1", config.disk.to_read.number()),
            format!("-add-fd fd={},set=1", config.disk.to_write.number()),
            format!("id=qmp,fd={},server=on", config.qmp.number()),
            format!("id=console,fd={},server=on", config.console.number()),
        ];
        for told in told {
            assert!(line.contains(&told), "{told}: {line}");
        }
        assert!(!line.contains("path="), "{line}");
        assert_eq!(config.into_descriptors().len(), 7);
    }
}
