//! Reading a log, also while it is being written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::time::{SystemTime, UNIX_EPOCH};

use isolazi_protocol::{LogRange, StreamId};

use super::Line;
use super::tail::start_of_tail;

/// Read from the file at once.
const BUFFER: usize = 64 << 10;

/// Reads whole lines of a range.
#[derive(Debug)]
pub struct LogReader {
    file: BufReader<File>,
    line: Vec<u8>,
    wanted: LogRange,
    /// Streams whose last piece did not end its line.
    open: Vec<StreamId>,
    /// The first piece that belongs to another stream than the batch before it.
    ahead: Option<(StreamId, Vec<u8>)>,
    is_past: bool,
}

impl LogReader {
    /// Reads of `file` what is `wanted`.
    pub fn new(mut file: File, wanted: LogRange) -> io::Result<Self> {
        if let Some(lines) = wanted.tail {
            let start = start_of_tail(&file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            file: BufReader::with_capacity(BUFFER, file),
            line: Vec::new(),
            wanted,
            open: Vec::new(),
            ahead: None,
            is_past: false,
        })
    }

    /// Whether nothing wanted can follow.
    pub fn is_past(&self) -> bool {
        self.is_past && self.ahead.is_none()
    }

    /// The next run of bytes of one stream, of about `limit`; `None` at the
    /// present end.
    pub fn next(&mut self, limit: usize) -> io::Result<Option<(StreamId, Vec<u8>)>> {
        let first = match self.ahead.take() {
            Some(piece) => Some(piece),
            None => self.piece()?,
        };
        let Some((stream, mut batch)) = first else {
            return Ok(None);
        };
        while batch.len() < limit {
            match self.piece()? {
                Some((same, bytes)) if same == stream => batch.extend_from_slice(&bytes),
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        Ok(Some((stream, batch)))
    }

    /// One line of the log, as it is to be shown.
    fn piece(&mut self) -> io::Result<Option<(StreamId, Vec<u8>)>> {
        while !self.is_past {
            self.line.clear();
            let count = self.file.read_until(b'\n', &mut self.line)?;
            let Some(line) = self.line.strip_suffix(b"\n") else {
                // Half a line: it is read again when the rest is there.
                self.file.seek_relative(-(count as i64))?;
                return Ok(None);
            };
            let Some(line) = Line::parse(line) else {
                continue;
            };
            match position(&line, &self.wanted) {
                Position::Before => {}
                Position::Past => self.is_past = true,
                Position::Within => {
                    let bytes = show(&line, &self.wanted, &mut self.open);
                    return Ok(Some((line.stream, bytes)));
                }
            }
        }
        Ok(None)
    }
}

enum Position {
    Before,
    Within,
    Past,
}

fn position(line: &Line<'_>, wanted: &LogRange) -> Position {
    if wanted.since.is_none() && wanted.until.is_none() {
        return Position::Within;
    }
    match nanos(line.stamp) {
        Some(then) if wanted.since.is_some_and(|since| then < since) => Position::Before,
        Some(then) if wanted.until.is_some_and(|until| then >= until) => Position::Past,
        _ => Position::Within,
    }
}

fn nanos(stamp: &[u8]) -> Option<u64> {
    let stamp = std::str::from_utf8(stamp).ok()?;
    let then: SystemTime = humantime::parse_rfc3339(stamp).ok()?;
    u64::try_from(then.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

fn show(line: &Line<'_>, wanted: &LogRange, open: &mut Vec<StreamId>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.text.len() + 1);
    if wanted.timestamps && !open.contains(&line.stream) {
        bytes.extend_from_slice(line.stamp);
        bytes.push(b' ');
    }
    open.retain(|stream| *stream != line.stream);
    bytes.extend_from_slice(line.text);
    match line.is_whole {
        true => bytes.push(b'\n'),
        false => open.push(line.stream),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const MOST: usize = 1 << 20;

    fn reader(log: &tempfile::NamedTempFile, wanted: LogRange) -> LogReader {
        LogReader::new(log.reopen().unwrap(), wanted).unwrap()
    }

    #[test]
    fn a_line_still_being_written_is_read_once_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = reader(&file, LogRange::default());
        file.write_all(b"t stdout F a\nt stdout P b\nt stderr F c\nt std")
            .unwrap();
        let expect = |reader: &mut LogReader, stream, text: &str| {
            let found = reader.next(MOST).unwrap();
            assert_eq!(found, Some((stream, text.as_bytes().to_vec())));
        };
        expect(&mut reader, StreamId::Stdout, "a\nb");
        expect(&mut reader, StreamId::Stderr, "c\n");
        assert_eq!(reader.next(MOST).unwrap(), None);
        file.write_all(b"out F d\n").unwrap();
        expect(&mut reader, StreamId::Stdout, "d\n");
    }

    #[test]
    fn a_range_ends_where_it_ends_and_stamps_stand_before_lines() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (second, rest) in [(1, "F a"), (2, "P b"), (2, "F c"), (3, "F d")] {
            writeln!(file, "1970-01-01T00:00:0{second}.000000000Z stdout {rest}").unwrap();
        }
        let wanted = LogRange {
            since: Some(2_000_000_000),
            until: Some(3_000_000_000),
            timestamps: true,
            tail: None,
        };
        let mut reader = reader(&file, wanted);
        let (_, text) = reader.next(MOST).unwrap().unwrap();
        assert_eq!(text, b"1970-01-01T00:00:02.000000000Z bc\n");
        assert_eq!(reader.next(MOST).unwrap(), None);
        assert!(reader.is_past());
    }
}
