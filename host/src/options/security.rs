//! How a container is confined: `--seccomp`, `--no-seccomp`, `--security-opt`.

use std::fs::File;
use std::io::{self, Read};

use isolazi_protocol::{MAX_PROFILE_BYTES, SeccompProfile, SecurityOptions};

use super::OptionError;
use crate::cli::SecurityArgs;

/// A profile by its name, or else the file of that name.
pub fn seccomp_profile(text: &str) -> Result<SeccompProfile, OptionError> {
    Ok(match text {
        "default" | "builtin" => SeccompProfile::Default,
        "minimal" => SeccompProfile::Minimal,
        "strict" => SeccompProfile::Strict,
        "disabled" | "unconfined" => SeccompProfile::Disabled,
        path => SeccompProfile::File {
            name: path.to_owned(),
            text: read(path).map_err(|source| OptionError::SeccompProfile {
                name: path.to_owned(),
                source,
            })?,
        },
    })
}

fn read(path: &str) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_PROFILE_BYTES as u64 + 1)
        .read_to_string(&mut text)?;
    match text.len() > MAX_PROFILE_BYTES {
        true => Err(io::Error::other("it is larger than 1 MiB")),
        false => Ok(text),
    }
}

/// The system-call filter, and what else was asked for.
pub fn security(args: &SecurityArgs) -> Result<(SeccompProfile, SecurityOptions), OptionError> {
    let mut options = SecurityOptions::default();
    let mut profiles: Vec<&str> = args.seccomp.as_deref().into_iter().collect();
    if args.no_seccomp {
        profiles.push("disabled");
    }
    for text in &args.security_opt {
        match split(text) {
            ("seccomp", Some(profile)) if !profile.is_empty() => profiles.push(profile),
            ("no-new-privileges", value) => {
                options.no_new_privileges = Some(boolean(value).ok_or_else(|| unknown(text))?);
            }
            ("systempaths", Some("unconfined")) => options.system_paths_unconfined = true,
            ("apparmor", Some(profile)) if !profile.is_empty() => {
                options.apparmor = Some(profile.to_owned());
            }
            ("label", Some(part)) if !part.is_empty() => options.labels.push(part.to_owned()),
            _ => return Err(unknown(text)),
        }
    }
    Ok((one_of(&profiles)?, options))
}

/// `NAME=VALUE`, or `NAME:VALUE` as older versions of Docker wrote it.
fn split(text: &str) -> (&str, Option<&str>) {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    parts.map_or((text, None), |(name, value)| (name, Some(value)))
}

/// As Go reads one.
fn boolean(text: Option<&str>) -> Option<bool> {
    match text {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
        Some(_) => None,
    }
}

fn unknown(text: &str) -> OptionError {
    OptionError::form(
        text,
        "a security option",
        "seccomp=PROFILE, no-new-privileges[=true|false], systempaths=unconfined, apparmor=PROFILE or label=…",
    )
}

/// The same profile may be said twice, and no two.
fn one_of(profiles: &[&str]) -> Result<SeccompProfile, OptionError> {
    let Some((last, earlier)) = profiles.split_last() else {
        return Ok(SeccompProfile::Default);
    };
    let profile = seccomp_profile(last)?;
    for other in earlier {
        if seccomp_profile(other)? != profile {
            return Err(OptionError::TwoProfiles(
                (*other).to_owned(),
                (*last).to_owned(),
            ));
        }
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[&str]) -> Result<(SeccompProfile, SecurityOptions), OptionError> {
        security(&SecurityArgs {
            security_opt: options.iter().map(ToString::to_string).collect(),
            ..SecurityArgs::default()
        })
    }

    #[test]
    fn options_are_dockers() {
        let (profile, options) = given(&[
            "no-new-privileges:false",
            "seccomp=unconfined",
            "systempaths=unconfined",
            "apparmor:mine",
            "label=type:spc_t",
            "label:level:s0",
        ])
        .unwrap();
        assert_eq!(profile, SeccompProfile::Disabled);
        assert_eq!(
            options,
            SecurityOptions {
                no_new_privileges: Some(false),
                system_paths_unconfined: true,
                apparmor: Some("mine".to_owned()),
                labels: vec!["type:spc_t".to_owned(), "level:s0".to_owned()],
            }
        );
        assert_eq!(
            given(&["no-new-privileges"]).unwrap().1.no_new_privileges,
            Some(true)
        );
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for bad in [
            "",
            "seccomp",
            "seccomp=",
            "seccomp=/nowhere/at/all",
            "seccomp=/",
            "no-new-privileges=maybe",
            "systempaths=masked",
            "apparmor=",
            "label",
            "mask=/proc",
            "nope",
        ] {
            assert!(given(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn there_is_one_profile() {
        assert_eq!(given(&[]).unwrap().0, SeccompProfile::Default);
        let both = |seccomp: &str, no_seccomp, option: &str| {
            security(&SecurityArgs {
                seccomp: Some(seccomp.to_owned()),
                no_seccomp,
                security_opt: vec![option.to_owned()],
            })
        };
        let agreeing = both("disabled", true, "seccomp=unconfined").unwrap();
        assert_eq!(agreeing.0, SeccompProfile::Disabled);
        assert!(both("strict", true, "label=disable").is_err());
        assert!(both("strict", false, "seccomp=minimal").is_err());
        assert_eq!(
            both("strict", false, "seccomp=strict").unwrap().0,
            SeccompProfile::Strict
        );
    }

    #[test]
    fn a_file_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        std::fs::write(&path, "{}").unwrap();
        let name = path.to_str().unwrap().to_owned();
        let text = "{}".to_owned();
        assert_eq!(
            seccomp_profile(&name).unwrap(),
            SeccompProfile::File {
                name: name.clone(),
                text
            }
        );
        std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(seccomp_profile(&name).is_err());
    }
}
