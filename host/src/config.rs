//! What a user sets up once: `config.toml` in the data root.
//!
//! ```toml
//! isolation = "vm"                         # where containers run that say nothing of it
//!
//! [machine]
//! backend = "qemu"                         # or vfkit, lima, wsl2; what fits this system by default
//! cpus = 4                                 # all of the host's by default
//! memory = "4g"                            # a quarter of the host's, 1.5 GiB at most, by default
//! disk = "100g"                            # 64g by default; the file takes what is used
//! idle-stop = "30m"                        # how long it runs while nobody uses it; "never" by default
//! shared-folders = ["~", "/Volumes/data"]  # what -v finds there with vfkit and lima; the home folder by default
//! rosetta = true                           # programs for 64-bit x86 run, with vfkit on Apple silicon; off by default
//!
//! [layers]
//! largest = "200g"                         # uncompressed; 64g by default
//! ratio = 1000                             # how many times larger than as it travels; 100 by default
//!
//! [registries]
//! insecure = ["lan.example:5000"]          # plain http is good enough there
//! ca-files = ["/etc/ssl/our-ca.pem"]       # trusted besides the system's
//!
//! [registries.mirrors]
//! "docker.io" = ["mirror.example"]         # asked first, in order
//! ```
//!
//! A key that means nothing is an error: a setting that is silently ignored is
//! worse than one that is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolazi_protocol::{Isolation, LayerBounds};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::image::registry_of;
use crate::image::{Authorities, AuthorityError, CredentialError, Credentials, NetworkOptions};
use crate::machine::{Backend, MachineSize, size as machine_size};
use crate::options::size;

const MAX_BYTES: u64 = 1 << 20;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or value that means nothing.
    #[error("{}, line {line}: {reason}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A registry's name that is none.
    #[error("{}: {source}", path.display())]
    Registry {
        /// Which file.
        path: PathBuf,
        /// Which name.
        source: CredentialError,
    },
    /// A file of certificates.
    #[error(transparent)]
    Authorities(#[from] AuthorityError),
    /// The file cannot be changed.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// All settings.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where containers run that do not say so themselves.
    pub isolation: Option<Isolation>,
    /// The virtual machine.
    pub machine: MachineConfig,
    /// What layers may be like.
    pub layers: LayersConfig,
    /// How registries are reached.
    pub registries: Registries,
}

/// The table `[layers]`: bounds against images that would fill the disk.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayersConfig {
    /// Bytes that a layer may have, uncompressed.
    #[serde(deserialize_with = "some_size")]
    pub largest: Option<u64>,
    /// How many times larger than its compressed form a layer may be, beyond the
    /// first GiB.
    pub ratio: Option<std::num::NonZeroU64>,
}

impl LayersConfig {
    /// In the agent's terms.
    pub fn bounds(&self) -> LayerBounds {
        LayerBounds {
            bytes: self.largest,
            ratio: self.ratio.map(std::num::NonZeroU64::get),
        }
    }
}

/// The table `[machine]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MachineConfig {
    /// What runs it.
    pub backend: Option<Backend>,
    /// Processors, as a number.
    #[serde(deserialize_with = "cpus")]
    pub cpus: Option<usize>,
    /// Bytes of memory.
    #[serde(deserialize_with = "memory")]
    pub memory: Option<u64>,
    /// Bytes of its disk.
    #[serde(deserialize_with = "disk")]
    pub disk: Option<u64>,
    /// How long the machine runs while no container runs in it and no command
    /// uses it; for ever where absent.
    #[serde(deserialize_with = "duration_or_never")]
    pub idle_stop: Option<Duration>,
    /// Folders of the host that it sees, where that is settled when it starts; the
    /// user's own where absent. `~` is the user's own.
    pub shared_folders: Option<Vec<PathBuf>>,
    /// Programs for 64-bit x86 run by Rosetta, with vfkit on Apple silicon.
    pub rosetta: bool,
}

impl MachineConfig {
    /// How large it is to be.
    pub fn size(&self) -> MachineSize {
        MachineSize {
            cpus: self.cpus,
            memory: self.memory,
            disk: self.disk,
        }
    }
}

/// The table `[registries]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Registries {
    /// Registries that plain http is good enough for.
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM; relative to the file's folder.
    pub ca_files: Vec<PathBuf>,
    /// Mirrors by registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// Reads the settings of a data root; one without has the defaults.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match read_limited(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Sets what of the machine's size is given, and leaves the file else as it is.
    pub fn set_machine_size(path: &Path, size: MachineSize) -> Result<(), ConfigError> {
        let text = match read_limited(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        let edited = with_machine_size(&text, size);
        // What cannot be read any more would keep every command from working.
        Self::parse(path, &edited)?;
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| crate::files::replace(path, edited.as_bytes()))
            .map_err(|source| ConfigError::Write {
                path: path.to_owned(),
                source,
            })
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            ConfigError::Parse {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                reason: crate::output::printable(&error.message().replace('\n', " ")),
            }
        })?;
        config.checked(path)
    }

    /// With every registry in the form that references have it in.
    fn checked(mut self, path: &Path) -> Result<Self, ConfigError> {
        let registry = |name: &String| {
            registry_of(Some(name)).map_err(|source| ConfigError::Registry {
                path: path.to_owned(),
                source,
            })
        };
        let mut mirrors = BTreeMap::new();
        for (name, hosts) in &self.registries.mirrors {
            let hosts: Vec<String> = hosts.iter().map(registry).collect::<Result<_, _>>()?;
            mirrors.insert(registry(name)?, hosts);
        }
        self.registries.mirrors = mirrors;
        let insecure = self.registries.insecure.iter();
        // A host without a port is not in references.
        let hosts = insecure.map(|name| match name.contains(['.', ':']) {
            true => registry(name),
            false => registry(&format!("{name}:1")).map(|_| name.to_ascii_lowercase()),
        });
        self.registries.insecure = hosts.collect::<Result<_, _>>()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in &mut self.registries.ca_files {
            *file = folder.join(&*file);
        }
        Ok(self)
    }

    /// How registries are talked to, with those that the command line calls
    /// insecure besides.
    pub fn network(self, insecure: &[String]) -> Result<NetworkOptions, ConfigError> {
        let Registries {
            insecure: mut plain,
            ca_files,
            mirrors,
        } = self.registries;
        plain.extend_from_slice(insecure);
        Ok(NetworkOptions {
            insecure: plain,
            mirrors,
            authorities: Authorities::read(&ca_files)?,
            credentials: Credentials::of_user(),
            ..NetworkOptions::default()
        })
    }
}

/// The settings with another size of the machine. Text that is no TOML is left as it is.
fn with_machine_size(text: &str, size: MachineSize) -> String {
    let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() else {
        return text.to_owned();
    };
    let table = toml_edit::Item::Table(toml_edit::Table::new());
    let machine = document.entry("machine").or_insert(table);
    let Some(machine) = machine.as_table_like_mut() else {
        return text.to_owned();
    };
    if let Some(cpus) = size.cpus {
        machine.insert("cpus", toml_edit::value(cpus as i64));
    }
    for (key, bytes) in [("memory", size.memory), ("disk", size.disk)] {
        if let Some(bytes) = bytes {
            machine.insert(key, toml_edit::value(compact(bytes)));
        }
    }
    document.to_string()
}

/// An amount of bytes in the largest unit that keeps it exact.
fn compact(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let fits = |(shift, _): &&(u32, &str)| bytes.trailing_zeros() >= *shift;
    match units.iter().find(fits) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Less would stop a machine between two commands of a script.
const SHORTEST_IDLE: Duration = Duration::from_secs(2);

fn some_size<'de, D>(deserializer: D) -> Result<Option<u64>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    size(&text).map(Some).map_err(serde::de::Error::custom)
}

fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let number = u32::deserialize(deserializer)?;
    let cpus = machine_size::cpus(&number.to_string());
    cpus.map(Some).map_err(D::Error::custom)
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    machine_size::memory(&text)
        .map(Some)
        .map_err(D::Error::custom)
}

fn disk<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    machine_size::disk(&text)
        .map(Some)
        .map_err(D::Error::custom)
}

fn duration_or_never<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    if text == "never" {
        return Ok(None);
    }
    match humantime::parse_duration(&text) {
        Ok(duration) if duration >= SHORTEST_IDLE => Ok(Some(duration)),
        _ => Err(serde::de::Error::custom(format!(
            "'{text}' is not a time of 2 seconds or more, such as \"10m\", nor \"never\""
        ))),
    }
}

fn read_limited(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/data/config.toml"), text)
    }

    #[test]
    fn settings_are_read() {
        let config = parse(
            "[registries]\ninsecure = [\"LAN.example:5000\", \"nas\"]\nca-files = [\"ca.pem\", \"/x.pem\"]\n\
             [registries.mirrors]\n\"index.docker.io\" = [\"https://mirror.example\", \"127.0.0.1:5000\"]\n",
        )
        .unwrap();
        let registries = config.registries;
        assert_eq!(registries.insecure, ["lan.example:5000", "nas"]);
        let files = [Path::new("/data/ca.pem"), Path::new("/x.pem")];
        assert_eq!(registries.ca_files, files);
        assert_eq!(
            registries.mirrors["docker.io"],
            ["mirror.example", "127.0.0.1:5000"]
        );
        assert!(parse("").unwrap().registries.insecure.is_empty());
    }

    #[test]
    fn what_means_nothing_is_an_error_that_names_it() {
        for (text, line, fragment) in [
            ("[registries]\n\ninsecur = []", 3, "insecur"),
            ("[registry]", 1, "registry"),
            ("[registries]\ninsecure = \"x\"", 2, "invalid type"),
            ("[registries", 1, ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}:")), "{error}");
            assert!(error.contains(fragment), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = parse("[registries.mirrors]\n\"docker.io\" = [\"a b\"]").unwrap_err();
        assert!(
            error.to_string().contains("'a b' is not a registry"),
            "{error}"
        );
    }

    #[test]
    fn a_machine_may_be_told_to_stop_when_idle() {
        let idle = |text: &str| parse(&format!("[machine]\nidle-stop = {text}"));
        let minutes = idle("\"10m\"").unwrap().machine.idle_stop;
        assert_eq!(minutes, Some(Duration::from_secs(600)));
        assert_eq!(idle("\"never\"").unwrap().machine.idle_stop, None);
        for text in ["\"soon\"", "\"1s\"", "10"] {
            assert!(idle(text).unwrap_err().to_string().contains("line 2"));
        }
    }

    #[test]
    fn the_machines_size_is_read_and_checked() {
        let size = |text: &str| parse(&format!("[machine]\n{text}")).map(|it| it.machine.size());
        let chosen = size("cpus = 1\nmemory = \"2g\"\ndisk = \"100g\"").unwrap();
        assert_eq!(chosen.cpus, Some(1));
        assert_eq!(chosen.memory, Some(2 << 30));
        assert_eq!(chosen.disk, Some(100 << 30));
        assert!(size("").unwrap().is_default());
        for bad in ["cpus = 0", "cpus = \"2\"", "memory = \"1m\"", "disk = 7"] {
            let error = size(bad).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn a_new_size_leaves_the_rest_of_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        let size = MachineSize {
            memory: Some(3 << 29),
            ..MachineSize::default()
        };
        Config::set_machine_size(&path, size).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "[machine]\nmemory = \"1536m\"\n");
        std::fs::write(
            &path,
            "# mine\n[machine] # here\ncpus = 1\n\n[layers]\nratio = 7\n",
        )
        .unwrap();
        Config::set_machine_size(&path, size).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected =
            "# mine\n[machine] # here\ncpus = 1\nmemory = \"1536m\"\n\n[layers]\nratio = 7\n";
        assert_eq!(text, expected);
        for broken in ["[machine", "machine = 7"] {
            std::fs::write(&path, broken).unwrap();
            assert!(Config::set_machine_size(&path, size).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_unit_that_is_exact() {
        for (bytes, text) in [(1 << 40, "1t"), (3 << 29, "1536m"), (1025, "1025")] {
            assert_eq!(compact(bytes), text);
        }
    }

    #[test]
    fn no_file_is_no_setting_and_bad_certificates_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(Config::read(&path).unwrap().registries.mirrors.is_empty());
        std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
        std::fs::write(&path, "[registries]\nca-files = [\"ca.pem\"]").unwrap();
        let error = Config::read(&path).unwrap().network(&[]).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
