//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"), with the
//! keys that layers use: `SCHILY.xattr.*` and GNU's sparse files.
//!
//! A record says its own length, so its value may hold any byte; that of a
//! file capability usually holds newlines.

use nix::sys::time::TimeSpec;

/// The records of one extended header that matter here.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<TimeSpec>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// GNU's records about a sparse file, of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(super) map: Vec<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// Reads the records of a header's content.
    pub(super) fn parse(mut content: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !content.is_empty() {
            let (key, value, rest) = record(content).ok_or("a PAX record is malformed")?;
            pax.set(key, value)?;
            content = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(XATTR) {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(SPARSE) {
            return self.sparse.set(name, value);
        }
        match key {
            b"path" => self.path = text(value),
            b"linkpath" => self.link = text(value),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value).ok_or("a PAX time is malformed")?),
            _ => {}
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"name" => self.name = text(value),
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.map.push(decimal(value)?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',');
                self.map = numbers.map(decimal).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the records describe a sparse file at all.
    pub(super) fn present(&self) -> bool {
        self.real_size.is_some() || self.major.is_some() || !self.map.is_empty()
    }
}

/// An empty value takes back what was said before.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

/// `<length> <key>=<value>\n`, the length being that of the whole record.
fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&content[..space]).ok()?).ok()?;
    let (record, rest) = content.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    (!key.is_empty()).then_some((key, value, rest))
}

/// A decimal number, digits only.
pub(super) fn decimal(digits: &[u8]) -> Result<u64, &'static str> {
    const MALFORMED: &str = "a number in a PAX header is malformed";
    if digits.is_empty() {
        return Err(MALFORMED);
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
        digit
            .and_then(|digit| number.checked_mul(10)?.checked_add(digit))
            .ok_or(MALFORMED)
    })
}

/// Seconds since the epoch, with an optional fraction and sign.
fn time(value: &[u8]) -> Option<TimeSpec> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?).ok()?).ok()?;
    let nanoseconds = nanoseconds(parts.next().unwrap_or_default())?;
    Some(match (negative, nanoseconds) {
        (false, fraction) => TimeSpec::new(seconds, fraction),
        (true, 0) => TimeSpec::new(-seconds, 0),
        (true, fraction) => TimeSpec::new(-seconds - 1, 1_000_000_000 - fraction),
    })
}

/// The first nine digits of a fraction; further ones are below the clock.
fn nanoseconds(digits: &[u8]) -> Option<i64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    Some(
        padded
            .take(9)
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0')),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let pax = Pax::parse(b"32 SCHILY.xattr.user.a=\n1 x=\n\0=\n20 path=with spaces\n").unwrap();
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\n1 x=\n\0=".to_vec())]);
        assert_eq!(pax.path.as_deref(), Some(b"with spaces".as_slice()));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "x",
            "5 a=b",
            "6 a=b",
            "7 a=b\n",
            "5 a=b\n",
            "4 a=\n",
            "2 \n",
            "99999999999999999999 a=b\n",
            "-6 a=b\n",
            "12 size=-12\n",
            "11 uid=0x1\n",
            "10 gid= 1\n",
            "12 mtime=1e\n",
            "15 mtime=1.2.3\n",
        ] {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_signs_and_nanoseconds() {
        let parsed = |value: &str| time(value.as_bytes()).unwrap();
        assert_eq!(parsed("12"), TimeSpec::new(12, 0));
        assert_eq!(parsed("1.5"), TimeSpec::new(1, 500_000_000));
        assert_eq!(parsed("1.1234567899"), TimeSpec::new(1, 123_456_789));
        assert_eq!(parsed("-1.25"), TimeSpec::new(-2, 750_000_000));
        assert_eq!(parsed("-3"), TimeSpec::new(-3, 0));
    }
}
