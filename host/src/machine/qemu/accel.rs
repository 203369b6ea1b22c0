//! What executes the guest: the processor through KVM, or QEMU's translator.
//!
//! A `/dev/kvm` that opens proves nothing: under some clouds' hypervisors it
//! is there and runs no ordinary kernel. So the kernel itself is booted once,
//! without a root, and has to get as far as its panic; the answer is kept for
//! this boot of the host.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::machine::GuestArch;
use crate::machine::supervised::host_boot;

/// How Linux offers the processor's virtualization.
pub(super) const KVM: &str = "/dev/kvm";

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    /// As QEMU's `-accel` wants it.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// As QEMU's `-cpu` wants it: all that there is. The architected algorithm of
    /// pointer authentication is slow to emulate; this one is as good for a guest.
    pub(super) fn cpu_model(self, arch: GuestArch) -> &'static str {
        match (self, arch) {
            (Self::Kvm, _) => "host",
            (Self::Tcg, GuestArch::X86_64) => "max",
            (Self::Tcg, GuestArch::Aarch64) => "max,pauth-impdef=on",
        }
    }

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The best accelerator that works for guests of `arch`. `runs_a_kernel` tries whether
/// KVM does; `memory` keeps the answer.
pub(super) async fn choose(
    arch: GuestArch,
    memory: &Path,
    runs_a_kernel: impl Future<Output = bool>,
) -> Accelerator {
    let device = OpenOptions::new().read(true).write(true).open(KVM);
    if device.is_err() || arch.is_foreign() {
        return Accelerator::Tcg;
    }
    let boot = host_boot();
    if let Some(known) = remembered(memory, &boot) {
        return known;
    }
    let chosen = match runs_a_kernel.await {
        true => Accelerator::Kvm,
        false => Accelerator::Tcg,
    };
    // Without the note the next start asks again, that is all.
    let _ = fs::write(memory, format!("{} {}\n", chosen.name(), boot.trim()));
    chosen
}

fn remembered(memory: &Path, boot: &str) -> Option<Accelerator> {
    recall(&fs::read_to_string(memory).unwrap_or_default(), boot)
}

/// Whether KVM runs a kernel, where that has been tried since the host's boot.
pub(super) fn known(memory: &Path) -> Option<bool> {
    remembered(memory, &host_boot()).map(|it| it == Accelerator::Kvm)
}

/// How many processors the guest gets. Before 8.1, QEMU's translator lets one
/// processor run code that another has just replaced; the kernel patches its
/// own code, so a guest with several dies of it once in a while ("Oops: int3").
pub(super) fn processors(accelerator: Accelerator, qemu: Option<Version>, host: usize) -> usize {
    const SOUND: Version = (8, 1);
    match accelerator {
        Accelerator::Kvm => host,
        Accelerator::Tcg if qemu.is_some_and(|version| version >= SOUND) => host,
        Accelerator::Tcg => 1,
    }
}

/// Major and minor.
pub(super) type Version = (u32, u32);

/// The version that `qemu` says it has. The program starts at once, before the
/// result is awaited.
pub(super) fn version(qemu: &Path) -> impl Future<Output = Option<Version>> + use<> {
    let mut command = Command::new(qemu);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn();
    async {
        let output = child.ok()?.wait_with_output().await.ok()?;
        parse_version(&String::from_utf8_lossy(&output.stdout))
    }
}

/// `QEMU emulator version 7.2.22 (Debian …)`, whatever distributions add.
fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.split("version ").nth(1)?;
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What was found out earlier, unless the host has been restarted since.
fn recall(note: &str, boot: &str) -> Option<Accelerator> {
    let (name, known_boot) = note.trim().split_once(' ')?;
    match name {
        _ if known_boot != boot.trim() || boot.trim().is_empty() => None,
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_one_boot_of_the_host() {
        assert_eq!(recall("kvm abc\n", "abc\n"), Some(Accelerator::Kvm));
        assert_eq!(recall("tcg abc\n", "abc\n"), Some(Accelerator::Tcg));
        for (note, boot) in [
            ("kvm abc", "def"),
            ("", "abc"),
            ("hvf abc", "abc"),
            ("kvm ", ""),
        ] {
            assert_eq!(recall(note, boot), None);
        }
    }

    #[test]
    fn versions_are_read_from_what_distributions_print() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_version(debian), Some((7, 2)));
        assert_eq!(
            parse_version("QEMU emulator version 10.0-rc1"),
            Some((10, 0))
        );
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn an_old_or_unknown_translator_gets_one_processor() {
        assert_eq!(processors(Accelerator::Tcg, Some((7, 2)), 8), 1);
        assert_eq!(processors(Accelerator::Tcg, None, 8), 1);
        assert_eq!(processors(Accelerator::Tcg, Some((8, 1)), 8), 8);
        assert_eq!(processors(Accelerator::Kvm, Some((7, 2)), 8), 8);
    }
}
