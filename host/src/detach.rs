//! Keys that leave a container's terminal and let it run: `--detach-keys`.

use std::str::FromStr;

use bytes::{Bytes, BytesMut};

/// A sequence of keys, as the bytes that a terminal sends for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Not a sequence of keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{0}' is no sequence of keys: use characters and ctrl-<letter>, separated by commas, such as ctrl-p,ctrl-q"
)]
pub struct DetachKeysError(String);

impl Default for DetachKeys {
    /// Docker's.
    fn default() -> Self {
        Self(vec![control(b'p'), control(b'q')])
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self)
            .ok_or_else(|| DetachKeysError(text.chars().take(80).collect()))
    }
}

fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.strip_prefix("ctrl-")) {
        ([byte], _) if byte.is_ascii_graphic() => Some(*byte),
        (_, Some(name)) => match name.as_bytes() {
            [byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => {
                Some(control(*byte))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What the key sends together with Ctrl (ASCII).
const fn control(byte: u8) -> u8 {
    byte.to_ascii_uppercase() & 0x1f
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    /// So many of them have just been typed, and are held back.
    matched: usize,
}

impl Watch {
    /// Nothing is typed yet.
    pub fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.0.clone(),
            matched: 0,
        }
    }

    /// What of `typed` goes on to the container, and whether the keys were
    /// complete. What comes after them is nobody's.
    pub fn pass(&mut self, typed: &[u8]) -> (Bytes, bool) {
        let mut passed = BytesMut::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            if byte != self.keys[self.matched] {
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                passed.extend_from_slice(&[byte]);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                return (passed.freeze(), true);
            }
        }
        (passed.freeze(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_in_docker() {
        let parsed = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0).ok();
        assert_eq!(parsed("ctrl-p,ctrl-q"), Some(vec![16, 17]));
        assert_eq!(parsed("ctrl-],x"), Some(vec![29, b'x']));
        assert_eq!(parsed("ctrl-@"), Some(vec![0]));
        for bad in ["", ",", "ctrl-", "ctrl-1", "ab", "ctrl-pq", "ä", "ctrl-p,"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut watch = Watch::new(&DetachKeys::default());
        let (passed, done) = watch.pass(b"ab\x10c");
        assert_eq!((&passed[..], done), (&b"ab\x10c"[..], false));
        let (passed, done) = watch.pass(b"x\x10");
        assert_eq!((&passed[..], done), (&b"x"[..], false));
        let (passed, done) = watch.pass(b"\x10\x10");
        assert_eq!((&passed[..], done), (&b"\x10\x10"[..], false));
        let (passed, done) = watch.pass(b"\x11lost");
        assert_eq!((&passed[..], done), (&b""[..], true));
    }
}
