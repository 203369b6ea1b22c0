//! How a container is confined: what may be asked for, and what it comes to.

use std::path::Path;

use isolazi_protocol::{ContainerSpec, ErrorCode, SeccompProfile, SecurityOptions, WireError};

use crate::container::checks::invalid;
use crate::container::privileges;
use crate::launch::plan::{DEFAULT_CAPABILITIES, LabelPlan, SeccompProgram};
use crate::seccomp::{self, Granted, SeccompError};

/// Where AppArmor says whether it is on, and which profiles it has.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// Where SELinux can be talked to.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// What containers have where nobody says (`lxc_contexts` of SELinux's policies).
const SELINUX_DEFAULT: [(&str, &str); 4] = [
    ("user", "system_u"),
    ("role", "system_r"),
    ("type", "container_t"),
    ("level", "s0"),
];

/// Checks everything before anything is made.
pub(super) fn validate(spec: &ContainerSpec) -> Result<(), WireError> {
    // Ours are known to compile, and are about to be.
    if matches!(spec.seccomp, SeccompProfile::File { .. }) {
        programs(spec)?;
    }
    label(&spec.options.security).map(drop)
}

/// The container's system-call filters.
pub fn programs(spec: &ContainerSpec) -> Result<Vec<SeccompProgram>, WireError> {
    // What the default one keeps from a privileged container is what that was asked for.
    if spec.options.privileges.privileged && spec.seccomp == SeccompProfile::Default {
        return Ok(Vec::new());
    }
    seccomp::programs(&spec.seccomp, &granted(spec)?)
        .map_err(|error| refusal(&spec.seccomp, &error))
}

/// What a profile comes to for a container without options.
pub fn show(profile: &SeccompProfile) -> Result<String, WireError> {
    let granted = Granted::here(DEFAULT_CAPABILITIES);
    seccomp::show(profile, &granted).map_err(|error| refusal(profile, &error))
}

/// What the rules of a profile may depend on.
fn granted(spec: &ContainerSpec) -> Result<Granted, WireError> {
    let capabilities = privileges::capabilities(&spec.options.privileges)?;
    Ok(Granted::here(capabilities))
}

fn refusal(profile: &SeccompProfile, error: &SeccompError) -> WireError {
    invalid(format!(
        "seccomp profile {}: {error}",
        seccomp::name(profile)
    ))
}

/// What security modules are to be told, if this machine has them.
pub(super) fn label(options: &SecurityOptions) -> Result<LabelPlan, WireError> {
    let apparmor = options.apparmor.as_deref();
    Ok(LabelPlan {
        apparmor: apparmor
            .filter(|profile| *profile != "unconfined")
            .map(apparmor_profile)
            .transpose()?,
        selinux: selinux_label(&options.labels)?,
    })
}

fn apparmor_profile(name: &str) -> Result<String, WireError> {
    if name.is_empty() || name.chars().any(|it| it.is_control() || it.is_whitespace()) {
        return Err(invalid(format!(
            "'{name}' is not an AppArmor profile's name"
        )));
    }
    let enabled = std::fs::read_to_string(APPARMOR).unwrap_or_default();
    if enabled.trim() != "Y" {
        return Err(missing(format!(
            "AppArmor is not enabled in this kernel, so there is no profile {name}; \
             leave --security-opt apparmor out"
        )));
    }
    // Where the list cannot be read, the kernel says so at `execve`.
    let loaded = std::fs::read_to_string(APPARMOR_PROFILES).ok();
    let is_loaded = |list: String| {
        list.lines()
            .any(|it| it.rsplit_once(" (").map_or(it, |it| it.0) == name)
    };
    match loaded.is_none_or(is_loaded) {
        true => Ok(name.to_owned()),
        false => Err(missing(format!(
            "the AppArmor profile {name} is not loaded; load it with apparmor_parser"
        ))),
    }
}

/// `user`, `role`, `type` and `level`, each of which has a default.
fn selinux_label(asked: &[String]) -> Result<Option<String>, WireError> {
    let mut parts = SELINUX_DEFAULT.map(|(key, value)| (key, value.to_owned()));
    let mut disabled = false;
    for text in asked {
        if text == "disable" {
            disabled = true;
            continue;
        }
        let known = text.split_once(':').and_then(|(key, value)| {
            let part = parts.iter_mut().find(|(known, _)| *known == key)?;
            Some((part, value))
        });
        let plain =
            |value: &str| !value.is_empty() && value.bytes().all(|it| it.is_ascii_graphic());
        match known {
            Some((part, value)) if plain(value) => part.1 = value.to_owned(),
            _ => {
                return Err(invalid(format!(
                    "'{text}' is not a part of an SELinux label: use label=disable, \
                     or label=user:, role:, type: or level: and a value"
                )));
            }
        }
    }
    if asked.is_empty() || disabled {
        return Ok(None);
    }
    if !Path::new(SELINUX).exists() {
        return Err(missing(
            "SELinux is not enabled in this kernel, so there are no labels; \
             leave --security-opt label out"
                .to_owned(),
        ));
    }
    Ok(Some(parts.map(|(_, value)| value).join(":")))
}

fn missing(message: String) -> WireError {
    WireError::new(ErrorCode::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_means_nothing_special_is_fine_anywhere() {
        let options = SecurityOptions {
            apparmor: Some("unconfined".to_owned()),
            labels: texts(&["type:spc_t", "disable"]),
            ..SecurityOptions::default()
        };
        assert_eq!(label(&options).unwrap(), LabelPlan::default());
        assert_eq!(
            label(&SecurityOptions::default()).unwrap(),
            LabelPlan::default()
        );
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for bad in ["", "type", "type:", "kind:x", "type:a b", "type:a\nb"] {
            assert!(selinux_label(&texts(&[bad, "disable"])).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a\nb"] {
            let error = apparmor_profile(bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn what_the_kernel_lacks_is_named() {
        if !Path::new(APPARMOR).exists() {
            let error = apparmor_profile("mine").unwrap_err();
            assert_eq!(error.code, ErrorCode::Unsupported);
            assert!(error.message.contains("AppArmor") && error.message.contains("mine"));
        }
        if !Path::new(SELINUX).exists() {
            let error = selinux_label(&texts(&["type:spc_t"])).unwrap_err();
            assert_eq!(error.code, ErrorCode::Unsupported);
            assert!(error.message.contains("SELinux"));
        }
    }
}
