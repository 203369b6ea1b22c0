//! The configuration of an image: how to run it, and what it consists of
//! (image-spec `config.md`; Docker's format has the same fields).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use isolazi_protocol::Digest;
use serde::{Deserialize, Serialize};

use super::health::ImageHealth;
use super::json::{keys, null_is_default};
use super::platform::Platform;

/// Largest configuration that is accepted.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// 9999-12-31T23:59:59Z, in seconds since the Unix epoch.
const LAST_SECOND: u64 = 253_402_300_799;

/// The defaults that an image brings for its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]` by name or number; empty is root.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `KEY=VALUE` each.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Comes before [`ImageConfig::cmd`].
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the whole command where there is no entry point.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Empty is `/`.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// By name or number.
    pub stop_signal: Option<String>,
    /// Paths that want storage of their own.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// `PORT[/PROTOCOL]` each.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// Anything its maker wanted to say.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// How to find out whether a container is well.
    pub healthcheck: Option<ImageHealth>,
    /// What takes a line where a shell is wanted; `/bin/sh -c` where it is empty.
    #[serde(deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// The whole configuration document.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigFile {
    created: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    os: String,
    variant: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) config: ImageConfig,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rootfs: RootFs,
}

/// The layers once they are unpacked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    /// Lowest layer first.
    pub(crate) diff_ids: Vec<Digest>,
}

impl ConfigFile {
    /// The platform it is for, where it says so.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let known = !self.os.is_empty() && !self.architecture.is_empty();
        known.then(|| Platform::new(&self.os, &self.architecture, self.variant.as_deref()))
    }

    /// When it was made; `None` where it does not say or the date is nonsense.
    pub(crate) fn created(&self) -> Option<SystemTime> {
        rfc3339(self.created.as_deref()?)
    }
}

/// A date, or `None` where it is nonsense: before 1970, or, by its time zone,
/// in a year of five digits, which nobody can write.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let date = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    let seconds = u64::try_from(date.timestamp()).ok()?;
    if seconds > LAST_SECOND {
        return None;
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_style_configuration_is_read() {
        let file: ConfigFile = serde_json::from_str(
            r#"{
              "created": "2023-05-09T23:11:10.007217553Z", "architecture": "arm64", "os": "linux",
              "variant": "v8", "container": "x", "history": [{}],
              "config": {"User": "1000:x", "Env": ["A=b"], "Cmd": ["/bin/sh"], "Entrypoint": null,
                "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}, "Labels": null,
                "WorkingDir": "", "StopSignal": "SIGQUIT", "ArgsEscaped": true},
              "rootfs": {"type": "layers", "diff_ids": []}
            }"#,
        )
        .unwrap();
        assert_eq!(file.config.cmd, ["/bin/sh"]);
        assert!(file.config.entrypoint.is_empty());
        assert_eq!(file.config.volumes, ["/data"]);
        assert_eq!(file.config.exposed_ports, ["80/tcp"]);
        assert_eq!(file.config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(file.platform().unwrap().to_string(), "linux/arm64");
        let created = file.created().unwrap();
        let since = created.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_683_673_870);
    }

    #[test]
    fn dates_are_ones_that_can_be_shown() {
        let last = rfc3339("9999-12-31T23:59:59Z").unwrap();
        let shown = humantime::format_rfc3339_seconds(last).to_string();
        assert_eq!(shown, "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339("9999-12-31T23:59:59-00:01"), None);
        assert_eq!(rfc3339("1969-12-31T23:59:59Z"), None);
    }

    #[test]
    fn an_empty_configuration_has_defaults() {
        let file: ConfigFile = serde_json::from_str("{\"config\": null}").unwrap();
        assert_eq!(file.config, ImageConfig::default());
        assert_eq!(file.platform(), None);
        assert_eq!(file.created(), None);
    }

    #[test]
    fn a_configuration_survives_our_own_format() {
        let config = ImageConfig {
            volumes: vec!["/v".into()],
            ..ImageConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ImageConfig>(&text).unwrap(), config);
    }

    #[test]
    fn diff_ids_must_be_digests() {
        let bad = r#"{"rootfs": {"diff_ids": ["sha256:../../x"]}}"#;
        assert!(serde_json::from_str::<ConfigFile>(bad).is_err());
    }
}
