//! vfkit's command line, read as strictly as vfkit reads it or more so: what it does not
//! document is refused, and so is what this stand-in cannot do. After `doc/usage.md`,
//! `pkg/cmdline` and `pkg/config` of github.com/crc-org/vfkit.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A machine as the command line has it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) cmdline: String,
    pub(crate) disk: PathBuf,
    pub(crate) mac: String,
    pub(crate) agent_port: u32,
    pub(crate) agent_socket: PathBuf,
    pub(crate) console_log: PathBuf,
    pub(crate) control_socket: PathBuf,
    /// Folders and their tags.
    pub(crate) shares: Vec<(PathBuf, String)>,
}

/// macOS' `sun_path`, without the zero at its end.
const LONGEST_SOCKET: usize = 103;

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut bootloaders = 0;
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag.as_str(), None),
            };
            ensure!(name.starts_with("--"), "unknown argument {flag:?}");
            let value = inline.or_else(|| rest.next().cloned());
            let value = value.with_context(|| format!("flag needs an argument: {name}"))?;
            match name {
                "--cpus" => options.cpus = value.parse().context("--cpus")?,
                "--memory" => options.memory_mib = value.parse().context("--memory")?,
                "--log-level" => ensure!(
                    ["debug", "info", "error"].contains(&value.as_str()),
                    "no such log level: {value}"
                ),
                "--bootloader" => {
                    bootloaders += 1;
                    options.bootloader(&value)?;
                }
                "--device" => options
                    .device(&value)
                    .with_context(|| format!("--device {value}"))?,
                "--restful-uri" => options.control_socket = control_socket(&value)?,
                _ => bail!("unknown flag: {name}"),
            }
        }
        ensure!(bootloaders == 1, "one bootloader is mandatory");
        options.complete()
    }

    /// Everything that a machine of isolazi's has to have.
    fn complete(self) -> Result<Self> {
        ensure!(
            self.cpus > 0 && self.memory_mib >= 256,
            "no processor or memory"
        );
        for file in [&self.kernel, &self.initrd, &self.disk] {
            ensure!(file.is_file(), "there is no file {}", file.display());
        }
        ensure!(!self.mac.is_empty(), "there is no network");
        ensure!(self.agent_port > 0, "there is no vsock");
        ensure!(!self.console_log.as_os_str().is_empty(), "no console");
        ensure!(!self.control_socket.as_os_str().is_empty(), "no control");
        let start = std::fs::read(&self.kernel)?;
        ensure!(
            !start.starts_with(&[0x1f, 0x8b]),
            "the kernel is compressed"
        );
        Ok(self)
    }

    fn bootloader(&mut self, value: &str) -> Result<()> {
        let mut words = quoted_words(value)?.into_iter();
        let kind = words.next().unwrap_or_default();
        ensure!(kind == "linux", "bootloader of type {kind:?}");
        for word in words {
            let (key, value) = word.split_once('=').context("an option without a value")?;
            match key {
                "kernel" => self.kernel = value.into(),
                "initrd" => self.initrd = value.into(),
                "cmdline" => {
                    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
                    self.cmdline = inner.context("cmdline must be in quotes")?.to_owned();
                }
                _ => bail!("unknown option for Linux bootloaders: {key}"),
            }
        }
        Ok(())
    }

    fn device(&mut self, value: &str) -> Result<()> {
        // Devices are split at every comma, quoted or not.
        let mut words = value.split(',');
        let kind = words.next().unwrap_or_default();
        let mut options = Words(
            words
                .map(|word| word.split_once('=').unwrap_or((word, "")))
                .collect(),
        );
        match kind {
            "virtio-rng" => {}
            "virtio-blk" => {
                ensure!(self.disk.as_os_str().is_empty(), "a second disk");
                self.disk = absolute(&options.value("path")?)?;
            }
            "virtio-net" => {
                options.flag("nat")?;
                self.mac = options.value("mac")?;
                let bytes: Vec<_> = self.mac.split(':').collect();
                let is_byte = |byte: &&str| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok();
                ensure!(bytes.len() == 6 && bytes.iter().all(is_byte), "invalid MAC");
            }
            "virtio-vsock" => {
                self.agent_port = options.value("port")?.parse()?;
                self.agent_socket = socket(&options.value("socketURL")?)?;
                options
                    .flag("connect")
                    .context("the guest would connect to the host")?;
            }
            "virtio-serial" => self.console_log = absolute(&options.value("logFilePath")?)?,
            "virtio-fs" => {
                let folder = absolute(&options.value("sharedDir")?)?;
                ensure!(folder.is_dir(), "there is no folder {}", folder.display());
                let tag = options.value("mountTag")?;
                ensure!(
                    !tag.is_empty() && tag.len() < 36,
                    "a tag of {} bytes",
                    tag.len()
                );
                ensure!(self.shares.iter().all(|(_, it)| *it != tag), "{tag} twice");
                self.shares.push((folder, tag));
            }
            "rosetta" => bail!("rosetta is only available on machines with Apple CPUs"),
            _ => bail!("unknown device type: {kind}"),
        }
        options.ensure_empty()
    }
}

/// The options of a device that have not been taken yet.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl Words<'_> {
    fn value(&mut self, key: &str) -> Result<String> {
        let index = self.0.iter().position(|(name, _)| *name == key);
        let index = index.with_context(|| format!("{key} is missing"))?;
        let value = self.0.remove(index).1;
        ensure!(!value.is_empty(), "{key} has no value");
        Ok(value.to_owned())
    }

    fn flag(&mut self, key: &str) -> Result<()> {
        let index = self.0.iter().position(|it| *it == (key, ""));
        self.0
            .remove(index.with_context(|| format!("{key} is missing"))?);
        Ok(())
    }

    fn ensure_empty(&self) -> Result<()> {
        ensure!(self.0.is_empty(), "unknown options {:?}", self.0);
        Ok(())
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    ensure!(Path::new(path).is_absolute(), "{path} is no absolute path");
    Ok(path.into())
}

/// Nothing may be there, and its address has to fit.
fn socket(path: &str) -> Result<PathBuf> {
    ensure!(path.len() <= LONGEST_SOCKET, "{path} is too long for macOS");
    let path = absolute(path)?;
    ensure!(!path.exists(), "{} is there already", path.display());
    Ok(path)
}

/// `unix://PATH`, as a URL.
fn control_socket(url: &str) -> Result<PathBuf> {
    let path = url
        .strip_prefix("unix://")
        .context("no URL of a unix socket")?;
    ensure!(path.starts_with('/'), "invalid unix uri: host is forbidden");
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|it| it.unwrap_or(b'?').into());
                let digits: String = digits.iter().collect::<Vec<&char>>().into_iter().collect();
                bytes.push(u8::from_str_radix(&digits, 16).context("invalid URL escape")?);
            }
            b'?' | b'#' | b' ' => bail!("invalid character in a URL's path"),
            _ => bytes.push(byte),
        }
    }
    socket(&String::from_utf8(bytes)?)
}

/// Splits at commas outside of quotes, as `pkg/cmdline/string_slice.go` does.
fn quoted_words(text: &str) -> Result<Vec<String>> {
    let mut words = vec![String::new()];
    let mut in_quotes = false;
    for letter in text.chars() {
        match letter {
            ',' if !in_quotes => words.push(String::new()),
            _ => {
                in_quotes ^= letter == '"';
                words.last_mut().context("a word")?.push(letter);
            }
        }
    }
    ensure!(!in_quotes, "mismatched \"");
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Options::parse(&words)
    }

    #[test]
    fn what_vfkit_does_not_know_is_refused() {
        for (words, said) in [
            (&["--hyper", "x"][..], "unknown flag"),
            (&["--cpus"], "needs an argument"),
            (&["--device", "virtio-fs,sharedDir=/,tag=x"], "mountTag"),
            (&["--device", "virtio-rng,fast"], "unknown options"),
            (&["--device", "virtio-blk,path=disk"], "absolute"),
            (&["--device", "virtio-vsock,port=1,socketURL=/s"], "connect"),
            (&["--device", "rosetta,mountTag=x"], "Apple"),
            (&["--bootloader", "linux,kernel=/k,cmdline=a b"], "quotes"),
            (&["--restful-uri", "unix://run/x"], "host"),
            (&[], "bootloader"),
        ] {
            let error = format!("{:#}", parse(words).unwrap_err());
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }

    #[test]
    fn commas_in_quotes_stay() {
        assert_eq!(
            quoted_words("linux,\"a,b\",c").unwrap(),
            ["linux", "\"a,b\"", "c"]
        );
        assert_eq!(
            control_socket("unix:///no%20such/s").unwrap(),
            Path::new("/no such/s")
        );
    }
}
