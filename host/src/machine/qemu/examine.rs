//! What this host has for QEMU.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use isolazi_protocol::{Finding, Grade};

use super::accel::{self, KVM};
use crate::machine::Backend;
use crate::machine::backend::find_program;

/// `memory` is where it is kept whether KVM runs a kernel here.
pub(super) async fn findings(memory: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(program) = find_program(&Backend::Qemu.program())
        && let Some((major, minor)) = accel::version(&program).await
    {
        findings.push(version(major, minor));
    }
    let opened = OpenOptions::new().read(true).write(true).open(KVM);
    findings.push(kvm(opened.map(drop), accel::known(memory)));
    findings
}

fn version(major: u32, minor: u32) -> Finding {
    const SUBJECT: &str = "QEMU";
    /// What the options that are used take.
    const OLDEST: (u32, u32) = (7, 0);
    let state = format!("version {major}.{minor}");
    match (major, minor) < OLDEST {
        true => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("{state} is too old"),
            format!("install {}.{} or later", OLDEST.0, OLDEST.1),
        ),
        false => Finding::good(SUBJECT, state),
    }
}

/// Without it everything works, about ten times slower.
fn kvm(opened: io::Result<()>, runs: Option<bool>) -> Finding {
    const SUBJECT: &str = "KVM";
    let lacking =
        |state: String, remedy: &str| Finding::bad(SUBJECT, Grade::Lacking, state, remedy);
    let slow = "so the guest is translated, which is slow";
    match (opened, runs) {
        (Ok(()), Some(false)) => lacking(
            format!("{KVM} is there, but cannot run a kernel, {slow}"),
            "enable nested virtualization where this host is a virtual machine itself, or use a host with VT-x or AMD-V",
        ),
        (Ok(()), Some(true)) => Finding::good(SUBJECT, "runs the guest"),
        (Ok(()), None) => Finding::good(
            SUBJECT,
            "there; whether it can run a guest is found out at the first start",
        ),
        (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => lacking(
            format!("{KVM} may not be opened by this user, {slow}"),
            "join its group, and log in again: sudo usermod --append --groups kvm $USER",
        ),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => lacking(
            format!("there is no {KVM}, {slow}"),
            "switch VT-x or AMD-V on in the firmware, and load it: sudo modprobe kvm_intel (or kvm_amd)",
        ),
        (Err(error), _) => lacking(
            format!("{KVM} cannot be opened ({error}), {slow}"),
            "use a host with VT-x or AMD-V",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_kvm_is_told_with_its_remedy() {
        let failed = |kind: io::ErrorKind| kvm(Err(kind.into()), None);
        let forbidden = failed(io::ErrorKind::PermissionDenied);
        assert!(forbidden.remedy.is_some_and(|it| it.contains("kvm $USER")));
        let absent = failed(io::ErrorKind::NotFound);
        assert!(absent.remedy.is_some_and(|it| it.contains("modprobe")));
        assert_eq!(kvm(Ok(()), Some(false)).grade, Grade::Lacking);
        assert_eq!(kvm(Ok(()), Some(true)).grade, Grade::Good);
        assert_eq!(kvm(Ok(()), None).grade, Grade::Good);
    }

    #[test]
    fn an_old_qemu_is_named() {
        assert_eq!(version(5, 2).grade, Grade::Broken);
        assert_eq!(version(7, 2).grade, Grade::Good);
        assert_eq!(version(10, 0).grade, Grade::Good);
    }
}
