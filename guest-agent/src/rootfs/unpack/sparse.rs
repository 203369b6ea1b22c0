//! The maps of sparse files: GNU's own header type and its three PAX formats.
//!
//! ```text
//!  in the archive   ████▓▓                 only the data, stretch after stretch
//!  in the file      ····████······▓▓···    at the offsets that the map gives
//! ```

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::UnpackError;
use super::header::number;
use super::pax::{PaxSparse, decimal};
use super::stream::{BLOCK, Pieces, Stream};

/// Stretches beyond which a map is taken for an attack on memory (16 MiB).
const MAX_STRETCHES: usize = 1 << 20;

/// Where the data of a sparse file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Offset and length of each stretch of data, in order, without overlap.
    pub(super) stretches: Vec<(u64, u64)>,
    /// The file's size.
    pub(super) size: u64,
}

impl SparseMap {
    /// Checks a map against the file's size and the data there is for it.
    fn new(stretches: Vec<(u64, u64)>, size: u64, data: u64) -> Result<Self, &'static str> {
        let mut position = 0u64;
        let mut sum = 0u64;
        for (offset, length) in &stretches {
            if *offset < position {
                return Err("the stretches of a sparse file overlap");
            }
            position = offset
                .checked_add(*length)
                .ok_or("a sparse file is too large")?;
            sum += length;
        }
        if position > size || i64::try_from(size).is_err() {
            return Err("the stretches of a sparse file exceed its size");
        }
        if sum != data {
            return Err("a sparse file has other data than its map says");
        }
        Ok(Self { stretches, size })
    }
}

/// The map of an entry of type `S`: four stretches in its header, 21 in each
/// block that follows. `data` is the size that the header gives.
pub(super) fn from_gnu<P: Pieces>(
    stream: &mut Stream<P>,
    header: &GnuHeader,
    data: u64,
) -> Result<SparseMap, UnpackError> {
    let size = number(&header.realsize).map_err(|reason| stream.malformed(reason))?;
    let mut stretches = Vec::new();
    push(&mut stretches, &header.sparse).map_err(|reason| stream.malformed(reason))?;
    let mut more = header.is_extended();
    while more {
        let mut extension = GnuExtSparseHeader::new();
        let mut block = [0; BLOCK];
        stream.exact(&mut block)?;
        extension.as_mut_bytes().copy_from_slice(&block);
        push(&mut stretches, extension.sparse()).map_err(|reason| stream.malformed(reason))?;
        more = extension.is_extended();
    }
    SparseMap::new(stretches, size, data).map_err(|reason| stream.malformed(reason))
}

fn push(stretches: &mut Vec<(u64, u64)>, headers: &[GnuSparseHeader]) -> Result<(), &'static str> {
    for header in headers.iter().take_while(|header| header.offset[0] != 0) {
        let offset = number(&header.offset)?;
        let length = number(&header.numbytes)?;
        stretches.push((offset, length));
    }
    check_count(stretches.len())
}

fn check_count(stretches: usize) -> Result<(), &'static str> {
    match stretches > MAX_STRETCHES {
        true => Err("a sparse file has too many stretches"),
        false => Ok(()),
    }
}

/// The map that PAX records give, or the one in front of the data that they
/// announce (format 1.0). `stored` is the entry's size in the archive; what
/// the map takes of it is taken off.
pub(super) fn from_pax<P: Pieces>(
    stream: &mut Stream<P>,
    records: &PaxSparse,
    stored: &mut u64,
) -> Result<SparseMap, UnpackError> {
    let size = records
        .real_size
        .ok_or_else(|| stream.malformed("a sparse file has no size"))?;
    let numbers = match records.major {
        Some(1) => leading_map(stream, stored)?,
        None | Some(0) => records.map.clone(),
        Some(_) => return Err(stream.malformed("a sparse file has an unknown format")),
    };
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return Err(stream.malformed("the map of a sparse file is malformed"));
    };
    let stretches = pairs.iter().map(|pair| (pair[0], pair[1])).collect();
    SparseMap::new(stretches, size, *stored).map_err(|reason| stream.malformed(reason))
}

/// Format 1.0: decimal numbers, each on a line, the first being the number of
/// stretches; padded to a block.
fn leading_map<P: Pieces>(
    stream: &mut Stream<P>,
    stored: &mut u64,
) -> Result<Vec<u64>, UnpackError> {
    let mut lines = Lines::default();
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = None;
    while wanted.is_none_or(|wanted| numbers.len() < wanted) {
        let number = lines.next(stream, stored)?;
        match wanted {
            None => {
                let count = usize::try_from(number).unwrap_or(usize::MAX);
                check_count(count).map_err(|reason| stream.malformed(reason))?;
                wanted = Some(2 * count);
            }
            Some(_) => numbers.push(number),
        }
    }
    Ok(numbers)
}

/// Lines out of blocks.
struct Lines {
    block: [u8; BLOCK],
    read: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            block: [0; BLOCK],
            read: BLOCK,
        }
    }
}

impl Lines {
    /// The number on the next line.
    fn next<P: Pieces>(
        &mut self,
        stream: &mut Stream<P>,
        stored: &mut u64,
    ) -> Result<u64, UnpackError> {
        let mut digits = Vec::new();
        loop {
            match self.byte(stream, stored)? {
                b'\n' => break,
                _ if digits.len() >= 20 => {
                    return Err(stream.malformed("the map of a sparse file is malformed"));
                }
                digit => digits.push(digit),
            }
        }
        decimal(&digits).map_err(|reason| stream.malformed(reason))
    }

    fn byte<P: Pieces>(
        &mut self,
        stream: &mut Stream<P>,
        stored: &mut u64,
    ) -> Result<u8, UnpackError> {
        if self.read == BLOCK {
            *stored = stored
                .checked_sub(BLOCK as u64)
                .ok_or_else(|| stream.malformed("the map of a sparse file has no end"))?;
            stream.exact(&mut self.block)?;
            self.read = 0;
        }
        self.read += 1;
        Ok(self.block[self.read - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::SparseMap;

    #[test]
    fn maps_that_do_not_add_up_are_refused() {
        let map = |stretches: &[(u64, u64)], size, data| {
            SparseMap::new(stretches.to_vec(), size, data).is_ok()
        };
        assert!(map(&[(0, 5), (10, 5), (20, 0)], 20, 10));
        assert!(map(&[], 1 << 40, 0));
        assert!(!map(&[(10, 5), (0, 5)], 20, 10));
        assert!(!map(&[(0, 5), (4, 5)], 20, 10));
        assert!(!map(&[(0, 5)], 4, 5));
        assert!(!map(&[(0, 5)], 20, 6));
        assert!(!map(&[(u64::MAX, 5)], u64::MAX, 5));
        assert!(!map(&[], u64::MAX, 0));
    }
}
