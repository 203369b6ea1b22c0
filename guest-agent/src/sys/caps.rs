//! Capability sets of the calling thread: capabilities(7), capset(2).

use nix::errno::Errno;

const VERSION_3: u32 = 0x2008_0522;

/// `CAP_MKNOD`: making device files.
pub const MKNOD: u8 = 27;

/// A set of capabilities by their numbers in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The capabilities of these numbers, each below 64.
    pub const fn of(numbers: &[u8]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < numbers.len() {
            bits |= 1 << numbers[index];
            index += 1;
        }
        Self(bits)
    }

    /// The set whose members are the bits of a number.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set as a number, its members bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The same and the capability of this number, which is below 64.
    pub const fn with(self, number: u8) -> Self {
        Self(self.0 | 1 << number)
    }

    /// Whether the capability of this number is in the set.
    pub const fn contains(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops from the bounding set everything but `keep`. Needs `CAP_SETPCAP`.
pub fn limit_bounding_set(keep: CapabilitySet) -> Result<(), Errno> {
    for number in 0..64 {
        if keep.contains(number) {
            continue;
        }
        // SAFETY: prctl with PR_CAPBSET_DROP takes integers only.
        let done =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match Errno::result(done) {
            Ok(_) => {}
            // Past the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<(), Errno> {
    // SAFETY: prctl with PR_CAP_AMBIENT_CLEAR_ALL takes integers only.
    let done = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
            0,
            0,
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// The capabilities that the calling thread has permitted.
pub fn permitted() -> Result<CapabilitySet, Errno> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let empty = || Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let mut data = [empty(), empty()];
    // SAFETY: version 3 of the interface reads one header and writes two data
    // structures, which is what the pointers refer to.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    Errno::result(done)?;
    let [low, high] = data.map(|half| u64::from(half.permitted));
    Ok(CapabilitySet(low | high << 32))
}

/// Makes `set` the permitted and effective capabilities, and the inheritable
/// set empty.
pub fn set_permitted(set: CapabilitySet) -> Result<(), Errno> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |bits: u32| Data {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    };
    let data = [half(set.0 as u32), half((set.0 >> 32) as u32)];
    // SAFETY: version 3 of the interface reads one header and two data
    // structures, which is what the pointers refer to.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(done).map(drop)
}
