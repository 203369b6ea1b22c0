//! vfkit's command line, as a pure function of what the machine is to be. After vfkit's
//! `doc/usage.md`, and where that is silent its `pkg/config` and `pkg/cmdline`.

use std::path::{Path, PathBuf};

use crate::machine::MachineError;

/// The tag of the folder with Rosetta in it.
pub const ROSETTA_TAG: &str = "rosetta";

/// What vfkit is told to run.
#[derive(Debug, Clone)]
pub struct VfkitConfig {
    /// Processors of the guest.
    pub cpus: usize,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Not compressed, on Apple silicon.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// A raw image.
    pub disk: PathBuf,
    /// Of the network card; one that stays has the same address lent again.
    pub mac: [u8; 6],
    /// The port of the guest's vsock that `agent_socket` leads to.
    pub agent_port: u32,
    /// vfkit listens here, and connects whoever comes to the guest.
    pub agent_socket: PathBuf,
    /// vfkit listens here for requests.
    pub control_socket: PathBuf,
    /// What the guest prints is written there.
    pub console_log: PathBuf,
    /// Folders of the host, and the tags that the guest mounts them by.
    pub shares: Vec<(PathBuf, String)>,
    /// Rosetta is shared, and installed where it is missing.
    pub rosetta: bool,
}

/// The arguments after the program's name.
///
/// # Errors
/// A path that cannot be said: options are split at commas, and nothing quotes one.
pub fn arguments(config: &VfkitConfig) -> Result<Vec<String>, MachineError> {
    let mut line = Line::default();
    line.option("--cpus", config.cpus.to_string());
    line.option("--memory", config.memory_mib.to_string());
    line.option("--log-level", "error");
    let (kernel, initrd) = (word(&config.kernel)?, word(&config.initrd)?);
    // The one value that has to be in quotes.
    let cmdline = "\"console=hvc0 quiet panic=-1 reboot=t\"";
    line.option(
        "--bootloader",
        format!("linux,kernel={kernel},initrd={initrd},cmdline={cmdline}"),
    );
    line.device(format!("virtio-blk,path={}", word(&config.disk)?));
    line.device("virtio-rng");
    line.device(format!("virtio-net,nat,mac={}", mac(config.mac)));
    // With `connect` it is the host that connects.
    line.device(format!(
        "virtio-vsock,port={},socketURL={},connect",
        config.agent_port,
        word(&config.agent_socket)?
    ));
    let log = word(&config.console_log)?;
    line.device(format!("virtio-serial,logFilePath={log}"));
    for (folder, tag) in &config.shares {
        let folder = word(folder)?;
        line.device(format!("virtio-fs,sharedDir={folder},mountTag={tag}"));
    }
    if config.rosetta {
        line.device(format!("rosetta,mountTag={ROSETTA_TAG},install"));
    }
    let control = url_path(word(&config.control_socket)?);
    line.option("--restful-uri", format!("unix://{control}"));
    Ok(line.0)
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(name.to_owned());
        self.0.push(value.into());
    }

    fn device(&mut self, device: impl Into<String>) {
        self.option("--device", device);
    }
}

/// A path as the value of an option.
fn word(path: &Path) -> Result<&str, MachineError> {
    let sayable = path.to_str().filter(|text| !text.contains([',', '"']));
    sayable.ok_or_else(|| {
        MachineError::Failed(format!(
            "vfkit takes no path with a comma or quote in it, nor one that is not UTF-8: rename {}",
            path.display()
        ))
    })
}

/// What is read as a URL has anything unusual in percent form (RFC 3986, 2.1).
fn url_path(path: &str) -> String {
    let mut url = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                url.push(byte.into());
            }
            _ => url += &format!("%{byte:02X}"),
        }
    }
    url
}

fn mac(address: [u8; 6]) -> String {
    let bytes = address.map(|byte| format!("{byte:02x}"));
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VfkitConfig {
        VfkitConfig {
            cpus: 4,
            memory_mib: 1024,
            kernel: "/a b/Image".into(),
            initrd: "/m/boot.cpio".into(),
            disk: "/m/data.img".into(),
            mac: [0x52, 0x54, 0, 1, 2, 0xab],
            agent_port: 1024,
            agent_socket: "/m/run/agent.sock".into(),
            control_socket: "/m x/run/vfkit.sock".into(),
            console_log: "/m/console.log".into(),
            shares: vec![("/Users/me".into(), "share-1".into())],
            rosetta: false,
        }
    }

    fn devices(config: &VfkitConfig) -> Vec<String> {
        let line = arguments(config).unwrap();
        let pairs = line.windows(2).filter(|pair| pair[0] == "--device");
        pairs.map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn the_line_is_as_vfkit_documents_it() {
        let line = arguments(&config()).unwrap();
        assert_eq!(
            line[..8],
            [
                "--cpus",
                "4",
                "--memory",
                "1024",
                "--log-level",
                "error",
                "--bootloader",
                "linux,kernel=/a b/Image,initrd=/m/boot.cpio,cmdline=\"console=hvc0 quiet panic=-1 reboot=t\"",
            ]
        );
        assert_eq!(
            devices(&config()),
            [
                "virtio-blk,path=/m/data.img",
                "virtio-rng",
                "virtio-net,nat,mac=52:54:00:01:02:ab",
                "virtio-vsock,port=1024,socketURL=/m/run/agent.sock,connect",
                "virtio-serial,logFilePath=/m/console.log",
                "virtio-fs,sharedDir=/Users/me,mountTag=share-1",
            ]
        );
        let end = &line[line.len() - 2..];
        assert_eq!(end, ["--restful-uri", "unix:///m%20x/run/vfkit.sock"]);
    }

    #[test]
    fn rosetta_is_there_where_it_is_asked_for() {
        let config = VfkitConfig {
            rosetta: true,
            ..config()
        };
        let devices = devices(&config);
        assert_eq!(devices.last().unwrap(), "rosetta,mountTag=rosetta,install");
    }

    #[test]
    fn what_vfkit_would_split_is_refused_by_name() {
        for path in ["/a,b", "/a\"b"] {
            let with = |change: fn(&mut VfkitConfig, PathBuf)| {
                let mut config = config();
                change(&mut config, path.into());
                arguments(&config).unwrap_err().to_string()
            };
            for error in [
                with(|config, path| config.kernel = path),
                with(|config, path| config.disk = path),
                with(|config, path| config.agent_socket = path),
                with(|config, path| config.shares[0].0 = path),
            ] {
                assert!(error.contains(path), "{error}");
            }
        }
    }
}
