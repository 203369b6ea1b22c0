//! Capabilities and devices of a container: what may be asked for, and what it
//! comes to on this machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use isolazi_protocol::{
    Capabilities, Capability, DeviceAccess, DeviceKind, DeviceMapping, DeviceRule, ErrorCode,
    Privileges, WireError,
};

use crate::container::checks::{absolute, invalid};
use crate::launch::plan::{DEFAULT_CAPABILITIES, DevicePlan, DevicesPlan, Settings};
use crate::sys::caps::{self, CapabilitySet};

const DEV: &str = "/dev";
/// What of the machine's `/dev` is not for a container, which has its own.
const NOT_SHOWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", "console"];
/// No more devices than this are shown, and no deeper in a folder.
const MOST_DEVICES: usize = 4096;
const DEEPEST: usize = 8;

/// Checks all that does not depend on the machine.
pub(super) fn validate(privileges: &Privileges) -> Result<(), WireError> {
    for device in &privileges.devices {
        absolute("device", &device.host)?;
        absolute("device path in the container", &device.container)?;
        if Path::new(&device.container).file_name().is_none() {
            return Err(invalid(format!(
                "'{}' is no place for the device {}: name a file",
                device.container, device.host
            )));
        }
    }
    Ok(())
}

/// Whether this machine has what is asked for.
pub fn check(privileges: &Privileges) -> Result<(), WireError> {
    grant(privileges).map(drop)
}

/// What the privileges come to: of the settings that part which is theirs, and
/// the limit of devices.
pub(super) fn grant(privileges: &Privileges) -> Result<(Settings, DevicesPlan), WireError> {
    let capabilities = capabilities(privileges)?;
    let mut devices = Vec::new();
    let mut rules = privileges.device_rules.clone();
    for mapping in &privileges.devices {
        let found = of_mapping(mapping)?;
        rules.extend(found.iter().map(|device| rule_of(device, mapping.access)));
        devices.extend(found);
    }
    if privileges.privileged {
        devices.extend(of_folder(Path::new(DEV), Path::new(DEV)));
    }
    let settings = Settings {
        privileged: privileges.privileged,
        capabilities: Some(capabilities.bits()),
        devices,
        ..Settings::default()
    };
    let limit = DevicesPlan {
        open: privileges.privileged,
        rules,
        needed: capabilities.contains(caps::MKNOD),
    };
    Ok((settings, limit))
}

/// The capabilities of the container's root on this machine.
pub(super) fn capabilities(privileges: &Privileges) -> Result<CapabilitySet, WireError> {
    let available = caps::permitted().map_err(|errno| {
        let message = format!("cannot read our own capabilities: {}", errno.desc());
        WireError::new(ErrorCode::Internal, message)
    })?;
    kept(privileges, available)
}

/// The capabilities of the container's root, of which `available` there are.
///
/// Docker's order: with `ALL` added, all but those dropped; with `ALL` dropped,
/// those added; else the default ones, less those dropped, and those added.
fn kept(privileges: &Privileges, available: CapabilitySet) -> Result<CapabilitySet, WireError> {
    let (add, drop) = (&privileges.cap_add, &privileges.cap_drop);
    for asked in add.iter().chain(drop) {
        if let Capabilities::One(one) = asked
            && !available.contains(one.number())
        {
            return Err(WireError::new(
                ErrorCode::Unsupported,
                format!(
                    "the capability {one} is not supported by this machine's kernel, or not available to isolazi itself; leave it out"
                ),
            ));
        }
    }
    if privileges.privileged {
        return Ok(available);
    }
    let adds = |one: Capability| add.contains(&Capabilities::One(one));
    let drops = |one: Capability| drop.contains(&Capabilities::One(one));
    let default = |one: Capability| DEFAULT_CAPABILITIES.contains(one.number());
    let keeps = |one: &Capability| {
        if add.contains(&Capabilities::All) {
            available.contains(one.number()) && !drops(*one)
        } else if drop.contains(&Capabilities::All) {
            adds(*one)
        } else {
            adds(*one) || (default(*one) && !drops(*one))
        }
    };
    let numbers: Vec<u8> = Capability::all()
        .filter(keeps)
        .map(Capability::number)
        .collect();
    Ok(CapabilitySet::of(&numbers))
}

/// The device, or all devices of a folder.
fn of_mapping(mapping: &DeviceMapping) -> Result<Vec<DevicePlan>, WireError> {
    let target = Path::new(&mapping.container);
    // A link to a device is as good as the device.
    let found = fs::canonicalize(&mapping.host)
        .and_then(|host| fs::metadata(&host).map(|status| (host, status)));
    let (host, found) = found.map_err(|error| {
        let message = format!("no such device {}: {error}", mapping.host);
        WireError::new(ErrorCode::NotFound, message)
    })?;
    let devices = match device(&host, target, &found) {
        Some(one) => vec![one],
        None if found.is_dir() => of_folder(&host, target),
        None => Vec::new(),
    };
    match devices.is_empty() {
        false => Ok(devices),
        true => Err(invalid(format!(
            "{} is not a device, nor a folder with any; name one with --device",
            mapping.host
        ))),
    }
}

/// All devices below `host`, as they would lie below `target`.
fn of_folder(host: &Path, target: &Path) -> Vec<DevicePlan> {
    let mut found = Vec::new();
    collect(host, target, DEEPEST, &mut found);
    found
}

fn collect(host: &Path, target: &Path, depth: usize, found: &mut Vec<DevicePlan>) {
    // What cannot be read, or has just gone, is left out.
    let Ok(entries) = fs::read_dir(host) else {
        return;
    };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let is_own = host == Path::new(DEV) && NOT_SHOWN.iter().any(|own| name == *own);
        if is_own || found.len() >= MOST_DEVICES {
            continue;
        }
        let (path, target) = (entry.path(), target.join(&name));
        let Ok(status) = fs::symlink_metadata(&path) else {
            continue;
        };
        match device(&path, &target, &status) {
            Some(device) => found.push(device),
            None if status.is_dir() && depth > 0 => collect(&path, &target, depth - 1, found),
            None => {}
        }
    }
}

fn device(host: &Path, target: &Path, status: &fs::Metadata) -> Option<DevicePlan> {
    let kind = status.file_type();
    let block = kind.is_block_device();
    (block || kind.is_char_device()).then(|| DevicePlan {
        source: host.to_owned(),
        target: PathBuf::from(target),
        block,
        number: status.rdev(),
        mode: status.mode() & 0o7777,
        uid: status.uid(),
        gid: status.gid(),
    })
}

fn rule_of(device: &DevicePlan, access: DeviceAccess) -> DeviceRule {
    DeviceRule {
        kind: match device.block {
            true => DeviceKind::Block,
            false => DeviceKind::Character,
        },
        // Both fit: there are 12 bits of the one and 20 of the other.
        major: Some(nix::sys::stat::major(device.number) as u32),
        minor: Some(nix::sys::stat::minor(device.number) as u32),
        access,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    fn names(privileged: bool, add: &[&str], drop: &[&str]) -> Result<Vec<String>, String> {
        let parse = |words: &[&str]| words.iter().map(|it| it.parse().unwrap()).collect();
        let privileges = Privileges {
            privileged,
            cap_add: parse(add),
            cap_drop: parse(drop),
            ..Privileges::default()
        };
        // As where a kernel has no CAP_SYS_RESOURCE to give.
        let available = CapabilitySet::from_bits(ALL & !(1 << 24));
        let kept = kept(&privileges, available).map_err(|error| error.message)?;
        let kept = Capability::all().filter(|it| kept.contains(it.number()));
        Ok(kept.map(|it| it.short_name().to_owned()).collect())
    }

    #[test]
    fn capabilities_are_weighed_as_docker_does() {
        assert_eq!(names(false, &[], &[]).unwrap().len(), 11);
        assert_eq!(names(false, &["ALL"], &[]).unwrap().len(), 40);
        assert_eq!(names(true, &[], &["ALL"]).unwrap().len(), 40);
        let all_but_one = names(false, &["ALL"], &["chown"]).unwrap();
        assert!(all_but_one.len() == 39 && !all_but_one.contains(&"CHOWN".to_owned()));
        assert_eq!(names(false, &["ALL"], &["ALL"]).unwrap().len(), 40);
        assert_eq!(names(false, &["chown"], &["ALL"]).unwrap(), ["CHOWN"]);
        let more = names(false, &["NET_ADMIN"], &["CHOWN", "NET_ADMIN"]).unwrap();
        assert!(more.contains(&"NET_ADMIN".to_owned()) && more.len() == 11);
    }

    #[test]
    fn what_the_kernel_lacks_is_named() {
        for (add, drop) in [(&["SYS_RESOURCE"][..], &[][..]), (&[], &["SYS_RESOURCE"])] {
            let error = names(false, add, drop).unwrap_err();
            assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
        }
    }

    #[test]
    fn devices_are_found_by_themselves_and_in_folders() {
        let mapping = |host: &str, container: &str| DeviceMapping {
            host: host.to_owned(),
            container: container.to_owned(),
            access: DeviceAccess::ALL,
        };
        let null = of_mapping(&mapping("/dev/null", "/dev/x")).unwrap();
        assert_eq!(
            rule_of(&null[0], DeviceAccess::ALL).to_string(),
            "c 1:3 rwm"
        );
        assert_eq!(null[0].target, Path::new("/dev/x"));
        let all = of_mapping(&mapping("/dev", "/y")).unwrap();
        let has = |path: &str| all.iter().any(|it| it.target == Path::new(path));
        assert!(has("/y/null") && !has("/y/console"));
        assert!(!all.iter().any(|it| it.target.starts_with("/y/pts")));
        for (host, said) in [
            ("/dev/nothing", "no such device"),
            ("/etc/passwd", "not a device"),
        ] {
            let error = of_mapping(&mapping(host, "/dev/x")).unwrap_err().message;
            assert!(error.contains(said) && error.contains(host), "{error}");
        }
    }

    #[test]
    fn paths_of_devices_are_whole() {
        for (host, container) in [
            ("null", "/dev/x"),
            ("/dev/null", "x"),
            ("/dev/null", "/"),
            ("/dev/../x", "/dev/x"),
            ("/dev/null", "/dev/../x"),
            ("/dev/null\0", "/dev/x"),
        ] {
            let privileges = Privileges {
                devices: vec![DeviceMapping {
                    host: host.to_owned(),
                    container: container.to_owned(),
                    access: DeviceAccess::ALL,
                }],
                ..Privileges::default()
            };
            assert!(validate(&privileges).is_err(), "{host:?} {container:?}");
        }
    }
}
