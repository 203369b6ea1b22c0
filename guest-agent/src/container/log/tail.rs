//! Where the last lines of a log begin, found from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Line;

/// Read at once.
const BLOCK: u64 = 64 << 10;
/// So much of a line says what it is.
const HEAD: usize = 64;

/// The offset of the last `lines` lines that the process wrote, each of which
/// may be several lines of the log.
pub(super) fn start_of_tail(log: &File, lines: u64) -> io::Result<u64> {
    let end = log.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let (mut after, mut next) = (0, end);
    let mut backwards = Backwards::new(log, end);
    while let Some((start, ends_a_line)) = backwards.next()? {
        if ends_a_line && next != end {
            after += 1;
            if after == lines {
                return Ok(next);
            }
        }
        next = start;
    }
    Ok(0)
}

/// The lines of a log, last first.
struct Backwards<'a> {
    log: &'a File,
    block: Vec<u8>,
    /// Offset of the block in the log.
    from: u64,
    /// So much of the block is not looked at yet.
    left: usize,
    /// The start of the line that the block ends in the middle of.
    head: Vec<u8>,
    done: bool,
}

impl<'a> Backwards<'a> {
    fn new(log: &'a File, end: u64) -> Self {
        Self {
            log,
            block: Vec::new(),
            from: end,
            left: 0,
            head: Vec::new(),
            done: end == 0,
        }
    }

    /// The offset of the line before, and whether it ends one of the process's.
    fn next(&mut self) -> io::Result<Option<(u64, bool)>> {
        while !self.done {
            let newline = self.block[..self.left]
                .iter()
                .rposition(|byte| *byte == b'\n');
            if let Some(newline) = newline {
                let head = self.take_head(newline + 1);
                self.left = newline;
                // What follows the last newline is not written to its end yet.
                if !head.is_empty() {
                    return Ok(Some((self.from + newline as u64 + 1, ends_a_line(&head))));
                }
            } else if self.from == 0 {
                self.done = true;
                let head = self.take_head(0);
                return Ok(Some((0, ends_a_line(&head))));
            } else {
                self.read_block()?;
            }
        }
        Ok(None)
    }

    /// The start of the line at `start` of the block.
    fn take_head(&mut self, start: usize) -> Vec<u8> {
        let mut head = self.block[start..self.left].to_vec();
        head.append(&mut self.head);
        head.truncate(HEAD);
        head
    }

    fn read_block(&mut self) -> io::Result<()> {
        self.head = self.take_head(0);
        let length = BLOCK.min(self.from);
        self.from -= length;
        self.block.resize(length as usize, 0);
        self.log.read_exact_at(&mut self.block, self.from)?;
        self.left = self.block.len();
        Ok(())
    }
}

fn ends_a_line(head: &[u8]) -> bool {
    Line::parse(head).is_some_and(|line| line.is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log_of(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn lines_of_several_pieces_count_once() {
        let log =
            log_of("t stdout F 1\nt stdout P 2a\nt stdout F 2b\nt stderr F 3\nt stdout P 4\n");
        let offsets: Vec<_> = (0..7).map(|n| start_of_tail(&log, n).unwrap()).collect();
        assert_eq!(offsets, [67, 54, 41, 13, 0, 0, 0]);
    }

    #[test]
    fn lines_longer_than_a_block_and_empty_logs() {
        assert_eq!(start_of_tail(&log_of(""), 3).unwrap(), 0);
        let long = "x".repeat(3 * BLOCK as usize);
        let log = log_of(&format!("t stdout F {long}\nt stdout F {long}\n"));
        let half = (long.len() + 12) as u64;
        assert_eq!(start_of_tail(&log, 1).unwrap(), half);
        assert_eq!(start_of_tail(&log, 2).unwrap(), 0);
    }
}
