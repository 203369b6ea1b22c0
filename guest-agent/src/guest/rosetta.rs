//! Rosetta, which runs programs for 64-bit x86 on Apple silicon. The host shares it as a
//! folder, and the kernel is told to run such programs by it
//! (`Documentation/admin-guide/binfmt-misc.rst`). After Apple's "Running Intel Binaries in
//! Linux VMs with Rosetta".

use std::fs;
use std::io;
use std::path::Path;

use super::error::GuestError;
use super::shares;

const REGISTER: &str = "/proc/sys/fs/binfmt_misc/register";
/// What the file in the folder is called.
const PROGRAM: &str = "rosetta";
/// The first bytes of such a program: elf(5), 64 bits, little-endian, executable or
/// shared, for x86-64.
const MAGIC: [u8; 20] = [
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0,
];
/// Which bits of them count: not the version of the ABI, nor the lowest of the type.
const MASK: [u8; 20] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xfe, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xfe, 0xff, 0xff, 0xff,
];

/// Has the kernel run programs for 64-bit x86 by what is in the shared folder `tag`.
pub(super) fn register(tag: &str) -> Result<(), GuestError> {
    let failed = GuestError::setup("register", "Rosetta");
    if cfg!(target_arch = "x86_64") {
        // All programs here are such ones, this among them.
        return Err(failed(io::Error::other("it is for Apple silicon")));
    }
    let register = || {
        let program = shares::attach(tag).map_err(io::Error::other)?.join(PROGRAM);
        match fs::write(REGISTER, rule(&program)) {
            // By a server before this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    };
    register().map_err(failed)
}

/// Opened now (F), so that containers need not have it, and with the credentials of the
/// program that it runs (C).
fn rule(program: &Path) -> String {
    let escaped = |bytes: [u8; 20]| bytes.map(|byte| format!("\\x{byte:02x}")).concat();
    format!(
        ":rosetta:M::{}:{}:{}:CF",
        escaped(MAGIC),
        escaped(MASK),
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel compares.
    fn fits(header: &[u8]) -> bool {
        let pairs = header.iter().zip(MAGIC).zip(MASK);
        pairs
            .into_iter()
            .all(|((byte, magic), mask)| byte & mask == magic & mask)
    }

    #[test]
    fn programs_for_x86_fit_and_others_do_not() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(fits(&own[..20]), cfg!(target_arch = "x86_64"));
        let mut header = MAGIC;
        // A position-independent one, as most are.
        header[16] = 3;
        assert!(fits(&header));
        header[18] = 183;
        assert!(!fits(&header), "that is for arm64");
    }

    #[test]
    fn the_rule_is_as_the_kernel_reads_it() {
        let rule = rule(Path::new("/run/isolazi/shares/rosetta/rosetta"));
        let fields: Vec<_> = rule.split(':').collect();
        assert_eq!(fields[1..4], ["rosetta", "M", ""]);
        assert!(fields[4].starts_with("\\x7f\\x45\\x4c\\x46\\x02"), "{rule}");
        assert_eq!((fields[4].len(), fields[5].len()), (80, 80));
        assert_eq!(fields[6..], ["/run/isolazi/shares/rosetta/rosetta", "CF"]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_processor_does_not_interpret_its_own_programs() {
        let error = register("rosetta").unwrap_err();
        assert!(isolazi_protocol::one_line(&error).contains("Apple silicon"));
    }
}
