//! PAX records (pax(1)), those that matter when a tree is extracted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What records say about the entry that follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) modified: Option<SystemTime>,
}

impl Pax {
    /// Reads records, each `LENGTH KEY=VALUE\n` with a length that counts
    /// itself; a value may contain anything.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            pax.set(&record[..equals], &record[equals + 1..]);
            bytes = &bytes[length..];
        }
        Some(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"mtime" => self.modified = time(value),
            _ => {}
        }
    }
}

/// `[-]SECONDS[.FRACTION]`.
fn time(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (before, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let distance = Duration::new(seconds.parse().ok()?, nanos);
    match before {
        true => UNIX_EPOCH.checked_sub(distance),
        false => UNIX_EPOCH.checked_add(distance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_whatever_their_values_contain() {
        let pax = Pax::parse(b"16 path=a\nb=\n c\n18 mtime=-1.50000\n8 x=\n\n\n\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a\nb=\n c".as_slice()));
        let modified = UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(pax.modified, Some(modified));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "x",
            "5 a=b",
            "99 path=x\n",
            "4 =\n",
            "0 a=b\n",
            "3 a\n",
            "-1 a=b\n",
        ] {
            let parsed = Pax::parse(bad.as_bytes());
            assert!(parsed.is_none_or(|pax| pax == Pax::default()), "{bad}");
        }
    }
}
