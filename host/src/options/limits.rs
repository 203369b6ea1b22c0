//! Sizes, and limits of processes.

use isolazi_protocol::Ulimit;

use super::OptionError;

/// A size in bytes, as Docker writes it: `64m`, `1.5g`, `512KiB`, `1024`.
pub(crate) fn size(text: &str) -> Result<u64, OptionError> {
    let bad = || {
        OptionError::form(
            text,
            "a size",
            "a number of bytes, or one with k, m, g or t",
        )
    };
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = &lower[number.len()..];
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit
        .strip_suffix('i')
        .filter(|it| !it.is_empty())
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(bad()),
    };
    let number = number.trim_end();
    if let Ok(whole) = number.parse::<u64>() {
        let bytes = whole.checked_mul(1 << shift);
        return bytes.filter(|bytes| *bytes > 0).ok_or_else(bad);
    }
    let is_decimal = number.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    let bytes = number.parse::<f64>().map_err(|_| bad())? * (1_u64 << shift) as f64;
    match is_decimal && bytes >= 1.0 && bytes < u64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(bad()),
    }
}

/// `NAME=SOFT[:HARD]`; the hard limit is the soft one where there is none.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let form = || {
        OptionError::form(
            text,
            "a ulimit",
            "NAME=SOFT[:HARD], such as nofile=1024:2048",
        )
    };
    let (name, values) = text.split_once('=').ok_or_else(form)?;
    let limit = name.parse()?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| match text {
        "-1" => Ok(None),
        number => number.parse().map(Some).map_err(|_| form()),
    };
    let (soft, hard) = (value(soft)?, value(hard)?);
    match (soft, hard) {
        (None, Some(_)) => Err(OptionError::SoftAboveHard(limit)),
        (Some(soft), Some(hard)) if soft > hard => Err(OptionError::SoftAboveHard(limit)),
        _ => Ok(Ulimit { limit, soft, hard }),
    }
}

/// A limit given twice is what it was the last time.
pub(super) fn last_of_each(all: Vec<Ulimit>) -> Vec<Ulimit> {
    let mut kept: Vec<Ulimit> = Vec::new();
    for ulimit in all {
        kept.retain(|earlier| earlier.limit != ulimit.limit);
        kept.push(ulimit);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::Limit;

    #[test]
    fn sizes_have_dockers_units() {
        for (text, bytes) in [
            ("1024", 1024),
            ("1b", 1),
            ("64k", 64 << 10),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in [
            "",
            "0",
            "m",
            "-1",
            "1x",
            "1mm",
            "1ib",
            "nan",
            "inf",
            "1e3",
            "99999999p",
            "0.1",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits_have_one_or_two_values() {
        let parsed = ulimit("nofile=1024:2048").unwrap();
        assert_eq!(
            (parsed.limit, parsed.soft, parsed.hard),
            (Limit::Nofile, Some(1024), Some(2048))
        );
        let parsed = ulimit("core=-1").unwrap();
        assert_eq!((parsed.soft, parsed.hard), (None, None));
        let parsed = ulimit("stack=5:-1").unwrap();
        assert_eq!((parsed.soft, parsed.hard), (Some(5), None));
        for bad in [
            "",
            "nofile",
            "nofile=",
            "files=1",
            "nofile=2:1",
            "nofile=-1:5",
            "nofile=-2",
            "nofile=1:2:3",
        ] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }
}
