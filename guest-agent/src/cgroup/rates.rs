//! Limits of single block devices: `io.max` of v2, `blkio.throttle.*` of v1.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use isolazi_protocol::{CgroupLimits, DeviceRate};

use super::LimitError;
use super::setting::{Setting, Write, write};

/// One of the four: which rates, and their names to us, v2 and v1.
struct Kind<'a> {
    rates: &'a [DeviceRate],
    option: &'static str,
    key: &'static str,
    file: &'static [&'static str],
}

fn kinds(limits: &CgroupLimits) -> [Kind<'_>; 4] {
    [
        Kind {
            rates: &limits.device_read_bps,
            option: "--device-read-bps",
            key: "rbps",
            file: &["blkio.throttle.read_bps_device"],
        },
        Kind {
            rates: &limits.device_write_bps,
            option: "--device-write-bps",
            key: "wbps",
            file: &["blkio.throttle.write_bps_device"],
        },
        Kind {
            rates: &limits.device_read_iops,
            option: "--device-read-iops",
            key: "riops",
            file: &["blkio.throttle.read_iops_device"],
        },
        Kind {
            rates: &limits.device_write_iops,
            option: "--device-write-iops",
            key: "wiops",
            file: &["blkio.throttle.write_iops_device"],
        },
    ]
}

/// The limits as settings of v2, or of v1.
pub(super) fn settings(limits: &CgroupLimits, v2: bool) -> Result<Vec<Setting>, LimitError> {
    let kinds = kinds(limits);
    let used = kinds.iter().filter(|kind| !kind.rates.is_empty());
    used.map(|kind| setting(kind, v2)).collect()
}

fn setting(kind: &Kind<'_>, v2: bool) -> Result<Setting, LimitError> {
    let writes: Result<Vec<Write>, LimitError> = kind
        .rates
        .iter()
        .map(|limit| {
            let (number, rate) = (number(kind.option, &limit.path)?, limit.rate);
            Ok(match v2 {
                true => write(&["io.max"], format!("{number} {}={rate}", kind.key)),
                false => write(kind.file, format!("{number} {rate}")),
            })
        })
        .collect();
    Ok(Setting {
        what: "the rate of a block device",
        option: kind.option,
        controller: if v2 { "io" } else { "blkio" },
        writes: writes?,
    })
}

/// The device's number, as `8:0`.
fn number(option: &'static str, path: &str) -> Result<String, LimitError> {
    let no_device = |source| LimitError::NoSuchDevice {
        option,
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(no_device)?;
    if !found.file_type().is_block_device() {
        let why = io::Error::other("it is not a block device");
        return Err(no_device(why));
    }
    let number = found.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    Ok(format!("{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_a_block_device_that_is_there() {
        for (path, said) in [
            ("/dev/no-such-disk", "No such file"),
            ("/dev/null", "not a block device"),
        ] {
            let limits = CgroupLimits {
                device_write_bps: vec![DeviceRate {
                    path: path.to_owned(),
                    rate: 1024,
                }],
                ..CgroupLimits::default()
            };
            let error = settings(&limits, true).unwrap_err().to_string();
            let named = error.contains(path) && error.contains("--device-write-bps");
            assert!(named && error.contains(said), "{error}");
        }
        assert!(
            settings(&CgroupLimits::default(), false)
                .unwrap()
                .is_empty()
        );
    }
}
