//! QEMU's command line, as a pure function of what the machine is to be.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::accel::Accelerator;
use super::vsock::Device;

/// What QEMU is told to run.
#[derive(Debug, Clone)]
pub(super) struct QemuConfig {
    pub(super) accelerator: Accelerator,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disk: PathBuf,
    pub(super) vsock: Device,
    pub(super) qmp: PathBuf,
    pub(super) console: PathBuf,
    pub(super) cpus: usize,
    pub(super) memory_mib: u64,
}

/// The bus that shared folders are plugged into. A conventional bridge takes a
/// device in milliseconds, where a PCI Express port waits for its button.
pub(super) const HOTPLUG_BUS: &str = "hot";
/// Slots of that bus; the last one holds the random number generator, so that
/// the guest gives the bridge a window at boot.
pub(super) const HOTPLUG_SLOTS: u8 = 30;

/// Where the guest finds the host, whatever the host's addresses are, and who resolves
/// names for it as the host does: addresses of QEMU's user network (`-netdev user`).
pub(super) const HOST_IN_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(super) const RESOLVER_IN_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Everything that could start another program or raise privileges is refused.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The arguments after the program's name.
pub(super) fn arguments(config: &QemuConfig) -> Vec<OsString> {
    let mut line = Line::default();
    line.words("-nodefaults -no-user-config -no-reboot -display none");
    line.words(
        "-machine q35,smbus=off,sata=off,usb=off,i8042=off,vmport=off,memory-backend=memory",
    );
    line.words("-bios qboot.rom");
    line.option("-accel", config.accelerator.option());
    line.option("-cpu", config.accelerator.cpu_model());
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
    line.path("-kernel", "", &config.kernel);
    line.path("-initrd", "", &config.initrd);
    line.option("-append", "console=hvc0 quiet panic=-1 reboot=t");
    // Not a pipe: a supervisor that comes later can connect to it again.
    line.path("-chardev", "socket,id=console,path=", &config.console)
        .append(",server=on,wait=off");
    line.words("-device virtio-serial-pci -device virtconsole,chardev=console");
    line.path("-qmp", "unix:", &config.qmp)
        .append(",server=on,wait=off");
    line.path("-drive", "file=", &config.disk)
        .append(",if=none,id=data,format=raw,discard=unmap,cache=writeback");
    line.words("-device virtio-blk-pci,drive=data");
    match &config.vsock {
        Device::Kernel { cid } => {
            line.option("-device", format!("vhost-vsock-pci,guest-cid={cid}"));
        }
        Device::VhostUser { socket } => {
            line.path("-chardev", "socket,id=vsock,path=", socket);
            line.words("-device vhost-user-vsock-pci,chardev=vsock");
        }
    }
    line.words("-netdev user,id=net,ipv6=off -device virtio-net-pci,netdev=net,romfile=");
    line.option("-device", format!("pcie-pci-bridge,id={HOTPLUG_BUS}"));
    line.option(
        "-device",
        format!("virtio-rng-pci,bus={HOTPLUG_BUS},addr=0x1f"),
    );
    line.0
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

    /// An option whose value is a path after `prefix`; in option lists a comma
    /// is doubled (qemu(1)).
    fn path(&mut self, name: &str, prefix: &str, path: &std::path::Path) -> &mut Self {
        let text = path.as_os_str().to_string_lossy();
        let escaped = match prefix {
            "" => text.into_owned(),
            _ => text.replace(',', ",,"),
        };
        self.option(name, format!("{prefix}{escaped}"));
        self
    }

    fn append(&mut self, more: &str) {
        if let Some(last) = self.0.last_mut() {
            last.push(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> QemuConfig {
        QemuConfig {
            accelerator: Accelerator::Tcg,
            kernel: "/a/vmlinux".into(),
            initrd: "/m/boot.cpio".into(),
            disk: "/m,x/data.img".into(),
            vsock: Device::VhostUser {
                socket: "/m/run/vsock-device.sock".into(),
            },
            qmp: "/m/run/qmp.sock".into(),
            console: "/m/run/console.sock".into(),
            cpus: 2,
            memory_mib: 1024,
        }
    }

    fn value_after(name: &str) -> Vec<String> {
        let arguments = arguments(&config());
        let pairs = arguments.windows(2).filter(|pair| pair[0] == name);
        pairs
            .map(|pair| pair[1].to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_guest_gets_what_it_needs_and_nothing_else() {
        assert_eq!(value_after("-kernel"), ["/a/vmlinux"]);
        assert_eq!(value_after("-m"), ["1024M"]);
        assert_eq!(value_after("-accel"), ["tcg,thread=multi"]);
        assert!(value_after("-netdev").is_empty());
        assert_eq!(value_after("-device").len(), 6);
        assert!(value_after("-sandbox")[0].contains("spawn=deny"));
    }

    #[test]
    fn the_kernels_vsock_needs_no_helper() {
        let config = QemuConfig {
            vsock: Device::Kernel { cid: 77 },
            ..config()
        };
        let words: Vec<_> = arguments(&config)
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert!(words.contains(&"vhost-vsock-pci,guest-cid=77".to_owned()));
        assert!(!words.iter().any(|word| word.contains("vhost-user-vsock")));
    }

    #[test]
    fn a_comma_in_a_path_does_not_start_another_option() {
        assert!(value_after("-drive")[0].starts_with("file=/m,,x/data.img,if=none"));
    }
}
