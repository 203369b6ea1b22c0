//! Installing a seccomp filter: seccomp(2).

use nix::errno::Errno;

/// Installs a classic BPF program on the calling thread, each instruction as
/// the eight bytes of a `struct sock_filter`. The thread must have
/// no_new_privs or `CAP_SYS_ADMIN`.
///
/// Fails with `EINVAL` for a program the kernel does not accept, and with
/// `E2BIG` for one of more than 65535 instructions.
pub fn install(program: &[[u8; 8]]) -> Result<(), Errno> {
    let mut instructions: Vec<libc::sock_filter> = program.iter().map(decode).collect();
    let header = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `header` describes a live array of as many instructions; the
    // kernel copies and verifies it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const header,
        )
    };
    Errno::result(done).map(drop)
}

fn decode(bytes: &[u8; 8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}
