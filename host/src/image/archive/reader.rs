//! A tar archive as a stream of entries, in bounded memory: long names and pax
//! records, which the `tar` crate reads whole whatever their size, have limits
//! here (pax(1), "ustar Interchange Format"; GNU tar's `tar.h`).

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

const BLOCK: usize = 512;
/// Longest name, and longest set of pax records, that are accepted.
const MAX_NAME: u64 = 4 << 10;
const MAX_PAX: u64 = 1 << 20;
/// Of a GNU sparse header: whether a further block of the map follows.
const SPARSE_MORE: usize = 482;
const SPARSE_BLOCK_MORE: usize = 504;

/// An entry; its content comes from [`Entries`] as a `Read`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    /// Of a link.
    pub(super) target: Vec<u8>,
    /// Of its content, in bytes.
    pub(super) size: u64,
}

/// The entries of an archive. Reading gives the content of the current one.
#[derive(Debug)]
pub(super) struct Entries<R> {
    source: R,
    /// Of the current entry.
    unread: u64,
    padding: u64,
}

/// What earlier records say about the next entry.
#[derive(Debug, Default)]
struct Overrides {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            unread: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end. What is left of the current one is
    /// passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut overrides = Overrides::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            self.expect(header.entry_size()?);
            match header.entry_type() {
                EntryType::GNULongName => overrides.name = Some(self.text()?),
                EntryType::GNULongLink => overrides.target = Some(self.text()?),
                EntryType::XHeader => overrides.read(&self.small(MAX_PAX)?)?,
                EntryType::XGlobalHeader => {}
                kind => return self.entry(&header, kind, overrides).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        overrides: Overrides,
    ) -> io::Result<Entry> {
        if kind == EntryType::GNUSparse {
            self.pass_sparse_map(header)?;
        }
        if let Some(size) = overrides.size {
            self.expect(size);
        }
        // Links may announce the size of what they point to.
        if matches!(kind, EntryType::Link | EntryType::Symlink) && overrides.size.is_none() {
            self.expect(0);
        }
        let link = || header.link_name_bytes().unwrap_or_default().into_owned();
        Ok(Entry {
            name: overrides
                .name
                .unwrap_or_else(|| header.path_bytes().into_owned()),
            target: overrides.target.unwrap_or_else(link),
            kind,
            size: self.unread,
        })
    }

    fn expect(&mut self, size: u64) {
        self.unread = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Passes over the rest of the current entry.
    fn skip(&mut self) -> io::Result<()> {
        let wanted = self.unread.saturating_add(self.padding);
        let passed = io::copy(&mut self.source.by_ref().take(wanted), &mut io::sink())?;
        // Some builders leave out the padding of the last entry.
        match passed < self.unread {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => {
                (self.unread, self.padding) = (0, 0);
                Ok(())
            }
        }
    }

    /// The next header; `None` at the end of the archive, which an empty block
    /// marks, or the end of the stream.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let read = read_fully(&mut self.source, block)?;
        if read == 0 || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if read < BLOCK {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The checksum counts its own eight bytes as blanks.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        match header.cksum() {
            Ok(checksum) if checksum == expected => Ok(Some(header)),
            _ => Err(invalid("the checksum of a header is wrong")),
        }
    }

    fn pass_sparse_map(&mut self, header: &Header) -> io::Result<()> {
        let mut more = header.as_bytes()[SPARSE_MORE] != 0;
        while more {
            let mut block = [0; BLOCK];
            self.source.read_exact(&mut block)?;
            more = block[SPARSE_BLOCK_MORE] != 0;
        }
        Ok(())
    }

    /// The content of a GNU long name, which ends with a NUL.
    fn text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = self.small(MAX_NAME)?;
        if text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn small(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.unread > limit {
            return Err(invalid("a name is too long"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.unread).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(wanted);
        if wanted == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread -= read as u64;
                Ok(read)
            }
        }
    }
}

impl Overrides {
    fn read(&mut self, records: &[u8]) -> io::Result<()> {
        for record in PaxExtensions::new(records) {
            let record = record?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" if value.len() as u64 > MAX_NAME => {
                    return Err(invalid("a name is too long"));
                }
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|it| it.parse().ok());
                    self.size = Some(size.ok_or_else(|| invalid("a size is no number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn read_fully(source: &mut impl Read, mut buffer: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => break,
            Ok(read) => {
                total += read;
                buffer = &mut buffer[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut entries = Entries::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = entries.next()? {
            let mut content = Vec::new();
            entries.read_to_end(&mut content)?;
            found.push((String::from_utf8(entry.name).unwrap(), content));
        }
        Ok(found)
    }

    #[test]
    fn names_of_any_length_and_contents_of_any_size() {
        let long = format!("{}/x", "d".repeat(300));
        let content = vec![7; 1500];
        let bytes = archive(&[("a", b""), (&long, &content), ("c", b"end")]);
        let expected = [
            ("a".to_owned(), vec![]),
            (long, content),
            ("c".to_owned(), b"end".to_vec()),
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        let unfinished = &bytes[..bytes.len() - 1024];
        assert_eq!(read(unfinished).unwrap(), expected, "without its end");
    }

    #[test]
    fn contents_need_not_be_read() {
        let bytes = archive(&[("a", &[1; 5000]), ("b", b"x")]);
        let mut entries = Entries::new(&bytes[..]);
        assert_eq!(entries.next().unwrap().unwrap().name, b"a");
        assert_eq!(entries.next().unwrap().unwrap().name, b"b");
        assert!(entries.next().unwrap().is_none());
    }

    #[test]
    fn a_size_may_come_from_a_pax_record() {
        let mut builder = tar::Builder::new(Vec::new());
        let records = [("size", &b"3"[..]), ("path", b"renamed")];
        builder.append_pax_extensions(records).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        let mut plain = archive(&[("x", b"")]);
        plain.truncate(512);
        bytes.extend(plain);
        bytes.extend(b"abc");
        assert_eq!(
            read(&bytes).unwrap(),
            [("renamed".to_owned(), b"abc".to_vec())]
        );
    }

    #[test]
    fn damage_and_excess_are_errors() {
        let bytes = archive(&[("a", &[1; 5000])]);
        assert!(read(&bytes[..2000]).is_err(), "cut off");
        let mut flipped = bytes.clone();
        flipped[0] ^= 1;
        assert!(read(&flipped).is_err(), "checksum");
        assert!(read(b"this is no tar at all").is_err());

        let mut header = Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(read(header.as_bytes()).is_err(), "endless name");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), fix: bool) {
            if fix && bytes.len() >= BLOCK {
                let sum: u32 = bytes[..148].iter().chain(&bytes[156..BLOCK]).map(|it| u32::from(*it)).sum();
                bytes[148..156].copy_from_slice(format!("{:06o}\0 ", sum + 256).as_bytes());
            }
            let _ = read_all(&bytes);
        }
    }

    fn read_all(bytes: &[u8]) -> io::Result<u64> {
        let mut entries = Entries::new(bytes);
        let mut total = 0;
        while entries.next()?.is_some() {
            total += io::copy(&mut entries.by_ref().take(1 << 20), &mut io::sink())?;
        }
        Ok(total)
    }
}
