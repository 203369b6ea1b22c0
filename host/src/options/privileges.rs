//! `--cap-add`, `--cap-drop`, `--device` and `--device-cgroup-rule`.

use std::collections::BTreeSet;

use isolazi_protocol::{
    Capabilities, Capability, DeviceAccess, DeviceMapping, Privileges, UnknownCapability,
};

use super::OptionError;
use crate::cli::PrivilegeArgs;

/// How alike two names have to be to be taken for each other.
const ALIKE: f64 = 0.8;

/// What was asked for, as Docker's command line puts it: each capability once
/// and sorted, `ALL` for any, and what is added is not dropped.
pub(super) fn privileges(args: &PrivilegeArgs) -> Result<Privileges, OptionError> {
    let add = capabilities(&args.cap_add)?;
    let mut drop = capabilities(&args.cap_drop)?;
    drop.retain(|it| !add.contains(it));
    let devices = args.device.iter().map(|text| device(text));
    let rules = args.device_cgroup_rule.iter();
    Ok(Privileges {
        privileged: args.privileged,
        cap_add: add.into_iter().collect(),
        cap_drop: drop.into_iter().collect(),
        devices: devices.collect::<Result<_, _>>()?,
        device_rules: rules
            .map(|text| text.parse().map_err(OptionError::Device))
            .collect::<Result<_, _>>()?,
    })
}

fn capabilities(texts: &[String]) -> Result<BTreeSet<Capabilities>, OptionError> {
    let parse = |text: &String| text.parse().map_err(unknown);
    let all: BTreeSet<Capabilities> = texts.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(match all.contains(&Capabilities::All) {
        true => [Capabilities::All].into(),
        false => all,
    })
}

fn unknown(error: UnknownCapability) -> OptionError {
    let upper = error.0.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let likeness = |it: &Capability| strsim::jaro_winkler(it.short_name(), name);
    let nearest = Capability::all().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    OptionError::Capability {
        hint: match nearest.filter(|it| likeness(it) >= ALIKE) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "use a name of capabilities(7), such as NET_ADMIN, or ALL".to_owned(),
        },
        name: error.0,
    }
}

/// `HOST[:CONTAINER][:rwm]`.
fn device(text: &str) -> Result<DeviceMapping, OptionError> {
    let form = || {
        OptionError::form(
            text,
            "a device",
            "HOST[:CONTAINER[:rwm]], such as /dev/fuse or /dev/sda:/dev/disk:r",
        )
    };
    let parts: Vec<&str> = text.split(':').collect();
    let access = |text: &str| text.parse::<DeviceAccess>().ok();
    let (host, container, access) = match parts[..] {
        [host] => (host, host, Some(DeviceAccess::ALL)),
        // As with Docker, what may be a mode is one.
        [host, last] => match access(last) {
            Some(access) => (host, host, Some(access)),
            None => (host, last, Some(DeviceAccess::ALL)),
        },
        [host, container, last] => (host, container, access(last)),
        _ => return Err(form()),
    };
    let is_whole = host.starts_with('/') && container.starts_with('/');
    match access.filter(|_| is_whole) {
        Some(access) => Ok(DeviceMapping {
            host: host.to_owned(),
            container: container.to_owned(),
            access,
        }),
        None => Err(form()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(add: &[&str], drop: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let args = PrivilegeArgs {
            cap_add: texts(add),
            cap_drop: texts(drop),
            ..PrivilegeArgs::default()
        };
        let privileges = privileges(&args).map_err(|error| error.to_string())?;
        let names = |all: &[Capabilities]| all.iter().map(ToString::to_string).collect();
        Ok((names(&privileges.cap_add), names(&privileges.cap_drop)))
    }

    #[test]
    fn capabilities_are_put_in_dockers_order() {
        let (add, drop) = parsed(&["net_admin", "CAP_NET_ADMIN", "chown"], &["kill"]).unwrap();
        assert_eq!(add, ["CAP_CHOWN", "CAP_NET_ADMIN"]);
        assert_eq!(drop, ["CAP_KILL"]);
        let (add, drop) = parsed(&["all", "kill"], &["ALL", "chown"]).unwrap();
        assert_eq!((add, drop), (vec!["ALL".to_owned()], vec![]));
        let (add, drop) = parsed(&["kill"], &["kill", "chown"]).unwrap();
        assert_eq!(
            (add, drop),
            (vec!["CAP_KILL".into()], vec!["CAP_CHOWN".into()])
        );
    }

    #[test]
    fn an_unknown_capability_is_named_with_what_it_may_be() {
        let error = parsed(&["NET_ADMN"], &[]).unwrap_err();
        assert!(
            error.contains("'NET_ADMN'") && error.contains("CAP_NET_ADMIN?"),
            "{error}"
        );
        let error = parsed(&[], &["x"]).unwrap_err();
        assert!(
            error.contains("'x'") && error.contains("capabilities(7)"),
            "{error}"
        );
    }

    #[test]
    fn devices_have_up_to_three_parts() {
        for (text, host, container, access) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:/dev/b:wr", "/dev/a", "/dev/b", "rw"),
        ] {
            let found = device(text).unwrap();
            let found = (found.host, found.container, found.access.to_string());
            assert_eq!(
                found,
                (host.into(), container.into(), access.into()),
                "{text}"
            );
        }
        for bad in [
            "",
            "fuse",
            "/dev/a:b",
            "/dev/a:/dev/b:x",
            "/dev/a:/b:r:w",
            "/dev/a:",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
