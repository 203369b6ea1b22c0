//! Programs for other processors: which one they are for, and what would have to be
//! there to run them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::errno::Errno;

/// What virtual machines of ours say at the end of their kernel's release
/// (`CONFIG_LOCALVERSION`).
const GUEST_KERNEL: &str = "-isolazi";

/// As the image-spec calls the processors that elf(5) numbers (`e_machine`).
const MACHINES: [(u16, &str); 9] = [
    (3, "386"),
    (8, "mips"),
    (21, "ppc64le"),
    (22, "s390x"),
    (40, "arm"),
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
    (258, "loong64"),
];

/// Why a program that the kernel refused with `errno` cannot run here, where that is
/// because it is for another processor. `name` is what the user calls it.
pub(super) fn explain(name: &str, path: &Path, errno: Errno) -> Option<String> {
    let mut header = [0; 20];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let release = nix::sys::utsname::uname().ok()?;
    let in_guest = release.release().to_string_lossy().ends_with(GUEST_KERNEL);
    sentence(name, processor(&header)?, own(), errno, in_guest)
}

fn sentence(name: &str, is: &str, own: &str, errno: Errno, in_guest: bool) -> Option<String> {
    if is == own {
        return None;
    }
    let missing = match errno {
        Errno::ENOEXEC => "there is no interpreter of such programs (binfmt_misc)",
        // The kernel knows an interpreter and does not find it in the container.
        Errno::ENOENT => {
            "the interpreter of such programs is registered without the flag F (binfmt_misc), so containers lack it"
        }
        _ => return None,
    };
    let remedy = match in_guest {
        true => format!(
            "have one registered in the virtual machine: isolazi --vm run --rm --privileged tonistiigi/binfmt --install {is}"
        ),
        false => "install one, such as Debian's and Ubuntu's qemu-user-static".to_owned(),
    };
    Some(format!(
        "cannot execute `{name}`: it is for linux/{is}, this machine executes linux/{own}, and {missing}; {remedy}"
    ))
}

/// Which processor a program is for; `None` where it is no ELF file or for one that
/// nobody has images for.
fn processor(header: &[u8; 20]) -> Option<&'static str> {
    const BIG_ENDIAN: u8 = 2;
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let number = [header[18], header[19]];
    let number = match header[5] {
        BIG_ENDIAN => u16::from_be_bytes(number),
        _ => u16::from_le_bytes(number),
    };
    MACHINES
        .iter()
        .find(|(machine, _)| *machine == number)
        .map(|(_, name)| *name)
}

/// This machine's, in the same words.
fn own() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(encoding: u8, machine: [u8; 2]) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(b"\x7fELF");
        header[5] = encoding;
        header[18..].copy_from_slice(&machine);
        header
    }

    #[test]
    fn processors_are_read_in_both_byte_orders() {
        assert_eq!(processor(&header(1, [183, 0])), Some("arm64"));
        assert_eq!(processor(&header(2, [0, 22])), Some("s390x"));
        assert_eq!(processor(&header(1, [0xff, 0xff])), None);
        assert_eq!(processor(b"#!/bin/sh\n0123456789"), None);
    }

    #[test]
    fn what_is_missing_and_what_helps_depends_on_the_place() {
        let said = |errno, in_guest| sentence("cat", "arm64", "amd64", errno, in_guest);
        let natively = said(Errno::ENOEXEC, false).unwrap();
        assert!(natively.contains("for linux/arm64, this machine executes linux/amd64"));
        assert!(natively.contains("qemu-user-static"), "{natively}");
        let in_guest = said(Errno::ENOEXEC, true).unwrap();
        assert!(in_guest.ends_with("--install arm64"), "{in_guest}");
        assert!(said(Errno::ENOENT, false).unwrap().contains("flag F"));
        assert_eq!(said(Errno::EACCES, false), None);
        assert_eq!(
            sentence("cat", "amd64", "amd64", Errno::ENOEXEC, false),
            None
        );
    }

    #[test]
    fn this_program_is_for_this_machine() {
        let path = std::env::current_exe().unwrap();
        let mut start = [0; 20];
        File::open(&path).unwrap().read_exact(&mut start).unwrap();
        assert_eq!(processor(&start), Some(own()));
        assert_eq!(explain("x", &path, Errno::ENOEXEC), None);
    }
}
