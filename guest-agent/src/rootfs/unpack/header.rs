//! The fixed part of a tar header. The `tar` crate knows its layout; its
//! numbers are read here, strictly, because a size that wraps or loses its
//! sign would make this archive another one than its checksum names.

use nix::sys::time::TimeSpec;
use tar::Header;

use super::stream::BLOCK;

/// A header block whose checksum is right.
pub(super) struct Fixed(Header);

impl Fixed {
    /// The header in `block`.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        let announced = number(&header.as_old().cksum)?;
        if announced != checksum(block) {
            return Err("the checksum of a header is wrong");
        }
        Ok(Self(header))
    }

    pub(super) fn header(&self) -> &Header {
        &self.0
    }

    /// Bytes that follow in the archive.
    pub(super) fn size(&self) -> Result<u64, &'static str> {
        number(&self.0.as_old().size)
    }

    /// Permission bits, set-id bits and the sticky bit.
    pub(super) fn mode(&self) -> Result<u32, &'static str> {
        Ok((number(&self.0.as_old().mode)? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u64, &'static str> {
        number(&self.0.as_old().uid)
    }

    pub(super) fn gid(&self) -> Result<u64, &'static str> {
        number(&self.0.as_old().gid)
    }

    pub(super) fn mtime(&self) -> Result<TimeSpec, &'static str> {
        Ok(TimeSpec::new(signed(&self.0.as_old().mtime)?, 0))
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u64, u64), &'static str> {
        // Both formats have these fields in the same place.
        let bytes = self.0.as_bytes();
        Ok((number(&bytes[329..337])?, number(&bytes[337..345])?))
    }
}

/// The sum of all bytes, those of the checksum itself counted as spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

/// A field that cannot be negative: octal digits, or GNU's base-256.
pub(super) fn number(field: &[u8]) -> Result<u64, &'static str> {
    u64::try_from(signed(field)?).map_err(|_| "a number in a header is negative")
}

fn signed(field: &[u8]) -> Result<i64, &'static str> {
    match field {
        [first, ..] if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// Two's complement, big endian, without the highest bit, which marks the form.
fn base256(field: &[u8]) -> Result<i64, &'static str> {
    let first = i128::from(field[0] & 0x7f) - i128::from(field[0] & 0x40) * 2;
    let value = field[1..]
        .iter()
        .fold(first, |value, byte| (value << 8) | i128::from(*byte));
    i64::try_from(value).map_err(|_| "a number in a header is too large")
}

/// Octal digits between spaces and NULs; nothing at all is zero.
fn octal(field: &[u8]) -> Result<i64, &'static str> {
    const MALFORMED: &str = "a number in a header is malformed";
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0));
    let digits = &field[start.unwrap_or(field.len())..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0));
    let digits = &digits[..end.unwrap_or(digits.len())];
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = matches!(digit, b'0'..=b'7').then(|| i64::from(digit - b'0'));
        digit
            .and_then(|digit| value.checked_mul(8)?.checked_add(digit))
            .ok_or(MALFORMED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_in_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(number(b"77777777777\0"), Ok(0o77777777777));
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Ok(256));
        assert_eq!(signed(&[0xff; 12]), Ok(-1));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"-000644\0").is_err());
        assert!(number(&[0xff; 12]).is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(number(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
