//! `--mount KEY=VALUE,…` and `--tmpfs DST[:OPTIONS]`.

use isolazi_protocol::{BindRecursion, Propagation, TmpfsMount, VolumeMount};

use crate::volume::{Mount, Volume, VolumeError};

/// Why an option is not a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A field that no mount has, or not of this type.
    #[error("'{field}' in '{mount}' is not an option of a mount of type {kind}")]
    Field {
        /// The whole.
        mount: String,
        /// The part that is wrong.
        field: String,
        /// What the mount is.
        kind: String,
    },
    /// A field that has no such value.
    #[error("'{field}' in '{mount}' has no such value: use {form}")]
    Value {
        /// The whole.
        mount: String,
        /// The part that is wrong.
        field: String,
        /// What it may be.
        form: &'static str,
    },
    /// A field of Docker's that means nothing here.
    #[error("'{field}' in '{mount}' is not supported; leave it out")]
    Unsupported {
        /// The whole.
        mount: String,
        /// The part in question.
        field: String,
    },
    /// A field that is missing.
    #[error("'{mount}' lacks {field}")]
    Missing {
        /// The whole.
        mount: String,
        /// What is missing.
        field: &'static str,
    },
    /// A field that makes sense with another only.
    #[error("'{field}' in '{mount}' needs {with}, too")]
    Needs {
        /// The whole.
        mount: String,
        /// The field.
        field: &'static str,
        /// What it needs.
        with: &'static str,
    },
    /// A quote without an end.
    #[error("'{0}' has a quote without an end")]
    Quote(String),
    /// As with `-v`.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// `DST[:OPTIONS]`.
pub fn tmpfs(text: &str) -> TmpfsMount {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty());
    TmpfsMount {
        target: target.to_owned(),
        options: options.map(str::to_owned).collect(),
    }
}

/// All that `--mount` may say.
#[derive(Debug, Default)]
struct Fields {
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    no_copy: bool,
    labels: Vec<(String, String)>,
    tmpfs: Vec<String>,
    propagation: Option<Propagation>,
    recursion: BindRecursion,
    /// What is mounted below has to be read-only, too.
    all_read_only: bool,
}

/// Parses `--mount`, and looks a source on this host up.
pub fn mount(text: &str) -> Result<Mount, MountError> {
    let fields = split(text)?;
    let kind = kind(text, &fields)?;
    let mut said = Fields::default();
    for field in &fields {
        said.take(text, kind, field)?;
    }
    let missing = |field| MountError::Missing {
        mount: text.to_owned(),
        field,
    };
    let target = said.target.clone().ok_or_else(|| missing("target=PATH"))?;
    if !target.starts_with('/') {
        return Err(VolumeError::RelativeTarget(target).into());
    }
    Ok(match kind {
        "bind" => {
            recursion_makes_sense(text, &said)?;
            let source = said.source.ok_or_else(|| missing("source=PATH"))?;
            Mount::Bind(Volume {
                propagation: said.propagation.unwrap_or_default(),
                recursion: said.recursion,
                ..Volume::find(&source, &target, said.read_only)?
            })
        }
        "tmpfs" => {
            let protect = said.read_only.then(|| "ro".to_owned());
            Mount::Tmpfs(TmpfsMount {
                target,
                options: said.tmpfs.into_iter().chain(protect).collect(),
            })
        }
        _ => Mount::Volume(VolumeMount {
            anonymous: said.source.is_none(),
            name: said.source.unwrap_or_default(),
            target,
            read_only: said.read_only,
            no_copy: said.no_copy,
            labels: said.labels.into_iter().collect(),
        }),
    })
}

/// As Docker has it, what is mounted below is said to be writable or not only of
/// a mount that is not.
fn recursion_makes_sense(text: &str, said: &Fields) -> Result<(), MountError> {
    let needs = |field, with| MountError::Needs {
        mount: text.to_owned(),
        field,
        with,
    };
    if said.recursion == BindRecursion::Writable && !said.read_only {
        return Err(needs("bind-recursive=writable", "readonly"));
    }
    if said.all_read_only && !said.read_only {
        return Err(needs("bind-recursive=readonly", "readonly"));
    }
    if said.all_read_only && said.propagation != Some(Propagation::RPrivate) {
        return Err(needs(
            "bind-recursive=readonly",
            "bind-propagation=rprivate",
        ));
    }
    Ok(())
}

/// The type, wherever it stands.
fn kind<'a>(text: &str, fields: &'a [String]) -> Result<&'a str, MountError> {
    let mut types = fields
        .iter()
        .filter_map(|field| field.strip_prefix("type="));
    match types.next_back() {
        None => Ok("volume"),
        Some(kind @ ("bind" | "volume" | "tmpfs")) => Ok(kind),
        Some(other) => Err(MountError::Value {
            mount: text.to_owned(),
            field: format!("type={other}"),
            form: "bind, volume or tmpfs",
        }),
    }
}

impl Fields {
    fn take(&mut self, text: &str, kind: &str, field: &str) -> Result<(), MountError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let bad = |form| MountError::Value {
            mount: text.to_owned(),
            field: field.to_owned(),
            form,
        };
        let unknown = || MountError::Field {
            mount: text.to_owned(),
            field: field.to_owned(),
            kind: kind.to_owned(),
        };
        let given = || value.filter(|value| !value.is_empty());
        match (key, kind) {
            ("type" | "consistency", _) => {}
            ("source" | "src", "bind" | "volume") => {
                self.source = given().map(str::to_owned);
            }
            ("target" | "dst" | "destination", _) => self.target = given().map(str::to_owned),
            ("readonly" | "ro", _) => self.read_only = switch(value).ok_or_else(|| bad(SWITCH))?,
            ("bind-propagation", "bind") => {
                let found = value.and_then(Propagation::named);
                self.propagation =
                    Some(found.ok_or_else(|| {
                        bad("shared, slave, private, rshared, rslave or rprivate")
                    })?);
            }
            ("bind-recursive", "bind") => {
                self.recursion = match value {
                    Some("enabled" | "readonly") => BindRecursion::Enabled,
                    Some("disabled") => BindRecursion::Disabled,
                    Some("writable") => BindRecursion::Writable,
                    _ => return Err(bad("enabled, disabled, writable or readonly")),
                };
                self.all_read_only = value == Some("readonly");
            }
            // Its older name.
            ("bind-nonrecursive", "bind") => {
                self.recursion = match switch(value).ok_or_else(|| bad(SWITCH))? {
                    true => BindRecursion::Disabled,
                    false => BindRecursion::Enabled,
                };
            }
            ("volume-nocopy", "volume") => {
                self.no_copy = switch(value).ok_or_else(|| bad(SWITCH))?;
            }
            ("volume-label", "volume") => {
                let label = given().ok_or_else(|| bad("volume-label=KEY=VALUE"))?;
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                self.labels.push((key.to_owned(), value.to_owned()));
            }
            ("volume-driver", "volume") => match value {
                Some("local") => {}
                _ => return Err(bad("local, the only driver there is")),
            },
            ("tmpfs-size", "tmpfs") => {
                let size = given().and_then(|text| crate::options::size(text).ok());
                let size = size.ok_or_else(|| bad("a size, such as 64m"))?;
                self.tmpfs.push(format!("size={size}"));
            }
            ("tmpfs-mode", "tmpfs") => {
                let mode = given().and_then(|text| u32::from_str_radix(text, 8).ok());
                let mode = mode.filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| bad("a mode in octal, such as 1770"))?;
                self.tmpfs.push(format!("mode={mode:o}"));
            }
            ("bind-create-src", "bind") | ("volume-opt" | "volume-subpath", "volume") => {
                return Err(MountError::Unsupported {
                    mount: text.to_owned(),
                    field: field.to_owned(),
                });
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

const SWITCH: &str = "true or false";

/// A key alone switches on.
fn switch(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => None,
    }
}

/// Splits at commas, as a line of CSV: a field in double quotes may contain
/// commas, and a quote doubled.
fn split(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    match quoted {
        false => Ok(fields),
        true => Err(MountError::Quote(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_a_line_of_csv() {
        let fields = split(r#"type=bind,"src=/a,b",dst=/"x","#).unwrap();
        assert_eq!(fields, ["type=bind", "src=/a,b", "dst=/\"x\"", ""]);
        assert_eq!(split(r#""a""b""#).unwrap(), ["a\"b"]);
        assert!(split(r#""a"#).is_err());
    }

    #[test]
    fn a_volume_is_the_default_type() {
        let text = "source=data,target=/d,readonly,volume-nocopy=true,volume-label=a=b=c";
        let Mount::Volume(volume) = mount(text).unwrap() else {
            panic!("no volume");
        };
        assert_eq!(
            (volume.name.as_str(), volume.target.as_str()),
            ("data", "/d")
        );
        assert!(volume.read_only && volume.no_copy && !volume.anonymous);
        assert_eq!(volume.labels["a"], "b=c");
        assert!(matches!(
            mount("type=volume,dst=/d").unwrap(),
            Mount::Volume(VolumeMount {
                anonymous: true,
                ..
            })
        ));
    }

    #[test]
    fn binds_have_a_source_that_exists() {
        let text = "type=bind,src=/,dst=/host,ro=1,bind-propagation=rprivate";
        let Mount::Bind(bind) = mount(text).unwrap() else {
            panic!("no bind");
        };
        assert!(bind.read_only);
        assert_eq!(bind.target, "/host");
        let text = "type=bind,src=/,dst=/x,ro,bind-propagation=rslave,bind-recursive=writable";
        let Mount::Bind(bind) = mount(text).unwrap() else {
            panic!("no bind");
        };
        assert_eq!(bind.propagation, Propagation::RSlave);
        assert_eq!(bind.recursion, BindRecursion::Writable);
        for bad in ["type=bind,dst=/x", "type=bind,src=/no/such,dst=/x"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_has_size_and_mode() {
        let text = "type=tmpfs,destination=/run,tmpfs-size=1m,tmpfs-mode=1770,ro";
        let Mount::Tmpfs(tmpfs) = mount(text).unwrap() else {
            panic!("no tmpfs");
        };
        assert_eq!(tmpfs.options, ["size=1048576", "mode=1770", "ro"]);
        assert_eq!(
            super::tmpfs("/run:size=1m,exec").options,
            ["size=1m", "exec"]
        );
        assert!(super::tmpfs("/run").options.is_empty());
    }

    #[test]
    fn what_a_mount_does_not_have_is_named() {
        for (text, part) in [
            ("", "''"),
            ("type=cluster,dst=/x", "type=cluster"),
            ("dst=x", "'x'"),
            ("src=data", "target"),
            ("dst=/x,volume-subpath=a", "not supported"),
            ("dst=/x,colour=red", "colour=red"),
            ("dst=/x,ro=maybe", "ro=maybe"),
            ("dst=/x,tmpfs-size=1m", "tmpfs-size=1m"),
            ("type=tmpfs,dst=/x,src=/y", "src=/y"),
            ("type=tmpfs,dst=/x,tmpfs-mode=9", "tmpfs-mode=9"),
            ("type=tmpfs,dst=/x,tmpfs-size=big", "tmpfs-size=big"),
            ("dst=/x,volume-driver=nfs", "volume-driver=nfs"),
            (
                "type=bind,src=/,dst=/x,bind-propagation=public",
                "bind-propagation=public",
            ),
            (
                "type=bind,src=/,dst=/x,bind-recursive=no",
                "bind-recursive=no",
            ),
            (
                "type=bind,src=/,dst=/x,bind-recursive=writable",
                "needs readonly",
            ),
            (
                "type=bind,src=/,dst=/x,ro,bind-recursive=readonly",
                "needs bind-propagation=rprivate",
            ),
        ] {
            let error = mount(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
