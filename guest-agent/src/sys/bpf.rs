//! Attaching a device program to a cgroup: bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction of eBPF: `struct bpf_insn` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// An operation on a destination and a source register.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers: destination | source << 4,
            offset,
            immediate,
        }
    }
}

#[cfg(test)]
impl Instruction {
    /// Code, destination, source, offset and immediate.
    pub(crate) fn parts(self) -> (u8, u8, u8, i16, i32) {
        let (to, from) = (self.registers & 0xf, self.registers >> 4);
        (self.code, to, from, self.offset, self.immediate)
    }
}

/// The part of `union bpf_attr` that loading a program uses.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching a program uses.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has every access to a device by the processes of a cgroup (v2) and those
/// below it decided by `program`, besides whatever decides it already. The
/// program goes when the cgroup is removed.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<(), Errno> {
    let program = load(program)?;
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attributes` is a live prefix of bpf_attr of the size given; the
    // kernel takes what comes after it as zero.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    };
    Errno::result(done).map(drop)
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is a live prefix of bpf_attr of the size given, and
    // its pointers are to a live array of so many instructions and to a
    // NUL-terminated string. The kernel copies and verifies the program.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        )
    };
    let fd = Errno::result(fd)? as RawFd;
    // SAFETY: the call succeeded, so this is a new descriptor nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
