//! Why `wsl.exe` does not do what it is asked for, and what helps. Its texts are
//! in Windows' language, its codes are not ("Troubleshooting WSL" in Microsoft's
//! documentation has both).

use crate::output::printable;

/// A distribution that is not there (WSL_E_DISTRO_NOT_FOUND).
const NOT_FOUND: &str = "WSL_E_DISTRO_NOT_FOUND";
/// None is there at all (WSL_E_DEFAULT_DISTRO_NOT_FOUND).
const NONE_AT_ALL: &str = "WSL_E_DEFAULT_DISTRO_NOT_FOUND";

/// Parts of what is said, and what it means.
const KNOWN: [(&[&str], &str); 5] = [
    (
        &["HCS_E_HYPERV_NOT_INSTALLED", "0x80370102"],
        "virtualization is off; turn it on in the machine's firmware, and as an administrator run: wsl --install --no-distribution",
    ),
    (
        &[
            "WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED",
            "0x8007019e",
            "HCS_E_SERVICE_NOT_AVAILABLE",
            "0x80370114",
        ],
        "the Windows Subsystem for Linux is not enabled; as an administrator run: wsl --install --no-distribution",
    ),
    (
        &["0x800701bc", "WSL_E_WSL2_NEEDED"],
        "WSL has no version 2 here, only 1; run: wsl --update, then: wsl --set-default-version 2",
    ),
    (
        &["WSL_E_VM_MODE_INVALID_STATE"],
        "WSL cannot make a distribution of version 2; run: wsl --set-default-version 2",
    ),
    (
        &["Usage: wsl.exe", "E_INVALIDARG"],
        "this wsl.exe is too old for isolazi; run: wsl --update",
    ),
];

/// One line about it.
pub(super) fn explain(name: &str, said: &str) -> String {
    let known = KNOWN
        .iter()
        .find(|(parts, _)| parts.iter().any(|part| said.contains(part)));
    if let Some((_, meaning)) = known {
        return (*meaning).to_owned();
    }
    let lines = said.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).take(4).collect();
    match lines.as_slice() {
        [] => format!("wsl.exe failed for the distribution {name} and did not say why"),
        lines => printable(&format!("wsl.exe failed: {}", lines.join(" "))),
    }
}

/// About one that an isolazi has not made.
pub(super) fn of_version_one(name: &str) -> String {
    format!(
        "the distribution {name} is of WSL's version 1, and isolazi needs 2; run: wsl --set-version {name} 2"
    )
}

/// Whether the distribution is not there.
pub(super) fn is_gone(reason: &str) -> bool {
    reason.contains(NOT_FOUND)
}

/// Whether there is no distribution to be listed.
pub(super) fn is_no_distribution(reason: &str) -> bool {
    reason.contains(NONE_AT_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_one_line_and_a_remedy() {
        for (said, part) in [
            (
                "Bitte aktivieren Sie …\r\nFehlercode: Wsl/Service/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED\r\n",
                "virtualization is off",
            ),
            ("Error: 0x80370102 The virtual machine", "firmware"),
            (
                "WslRegisterDistribution failed with error: 0x8007019e",
                "wsl --install",
            ),
            ("Error: 0x800701bc WSL 2 requires an update", "wsl --update"),
            (
                "Invalid command line option: --version\r\nUsage: wsl.exe [Argument]",
                "too old",
            ),
            (
                "Access\r\n\r\n is denied.\r\n",
                "wsl.exe failed: Access is denied.",
            ),
            ("", "did not say why"),
        ] {
            let line = explain("isolazi", said);
            assert!(line.contains(part), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_distribution_that_is_gone_is_told_from_other_trouble() {
        let said = "There is no distribution with the supplied name.\n\
                    Error code: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\n";
        assert!(is_gone(&explain("isolazi", said)));
        assert!(!is_gone(&explain("isolazi", "Access is denied.")));
        let none = "Error code: Wsl/WSL_E_DEFAULT_DISTRO_NOT_FOUND";
        assert!(is_no_distribution(&explain("isolazi", none)));
    }
}
