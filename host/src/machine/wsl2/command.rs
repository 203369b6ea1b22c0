//! Command lines of `wsl.exe`, as Microsoft documents them ("Basic commands for
//! WSL"), and what it says.

use std::path::Path;
use std::time::Duration;

use isolazi_protocol::wsl::{AGENT, HOLD_ROLE, INSTALL_ROLE, NEVER, SERVE_ROLE};
use tokio::process::Command;

use crate::machine::fingerprint::fingerprint;

/// Has `wsl.exe` speak UTF-8, from version 0.64 on.
pub(super) const UTF8_VARIABLE: &str = "WSL_UTF8";

/// The distribution's name: that of a data root elsewhere than usual has a part
/// of its own.
pub(super) fn distribution(root: &Path, usual: Option<&Path>) -> String {
    if usual == Some(root) {
        return "isolazi".to_owned();
    }
    format!("isolazi-{:08x}", fingerprint(root) >> 32)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

pub(super) fn list() -> Vec<String> {
    words(["--list", "--verbose"])
}

pub(super) fn list_running() -> Vec<String> {
    words(["--list", "--running", "--quiet"])
}

pub(super) fn import(name: &str, folder: &Path, tar: &Path) -> Vec<String> {
    let (folder, tar) = (folder.to_string_lossy(), tar.to_string_lossy());
    words(["--import", name, &folder, &tar, "--version", "2"])
}

pub(super) fn terminate(name: &str) -> Vec<String> {
    words(["--terminate", name])
}

pub(super) fn unregister(name: &str) -> Vec<String> {
    words(["--unregister", name])
}

fn agent(name: &str, role: &str) -> Vec<String> {
    words(["-d", name, "-u", "root", "--exec", AGENT, role])
}

pub(super) fn serve(name: &str) -> Vec<String> {
    agent(name, SERVE_ROLE)
}

pub(super) fn install(name: &str) -> Vec<String> {
    agent(name, INSTALL_ROLE)
}

pub(super) fn hold(name: &str, idle: Option<Duration>) -> Vec<String> {
    let mut words = agent(name, HOLD_ROLE);
    words.push(idle.map_or(NEVER.to_owned(), |idle| idle.as_secs().to_string()));
    words
}

/// Keeps what happens at the user's terminal from the command: Ctrl-C is for us to
/// pass on, and a closed window does not end what holds the distribution.
pub(super) fn set_apart(command: &mut Command) {
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    {
        crate::sys::keep_streams();
        command.creation_flags(windows_sys::Win32::System::Threading::CREATE_NO_WINDOW);
    }
}

/// What `wsl.exe` says: UTF-16, or UTF-8 where it knows the variable; what a
/// program in the distribution says is UTF-8 always.
pub(super) fn text(bytes: &[u8]) -> String {
    let without_mark = bytes.strip_prefix(&[0xff, 0xfe]);
    let is_utf16 =
        without_mark.is_some() || bytes.get(1) == Some(&0) && bytes.len().is_multiple_of(2);
    if !is_utf16 {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let pairs = without_mark.unwrap_or(bytes).chunks_exact(2);
    let units: Vec<u16> = pairs.map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_as_documented() {
        let line = |words: Vec<String>| words.join(" ");
        for (is, should) in [
            (list(), "--list --verbose"),
            (list_running(), "--list --running --quiet"),
            (terminate("isolazi"), "--terminate isolazi"),
            (unregister("isolazi"), "--unregister isolazi"),
            (
                import("isolazi", Path::new("d"), Path::new("r.tar")),
                "--import isolazi d r.tar --version 2",
            ),
            (
                serve("isolazi"),
                "-d isolazi -u root --exec /isolazi-agent wsl-serve",
            ),
            (
                hold("isolazi", None),
                "-d isolazi -u root --exec /isolazi-agent wsl-hold never",
            ),
            (
                hold("isolazi", Some(Duration::from_secs(600))),
                "-d isolazi -u root --exec /isolazi-agent wsl-hold 600",
            ),
            (
                install("isolazi"),
                "-d isolazi -u root --exec /isolazi-agent wsl-install",
            ),
        ] {
            assert_eq!(line(is), should);
        }
    }

    #[test]
    fn each_data_root_has_a_distribution_of_its_own() {
        let usual = Path::new("/home/user/.isolazi");
        assert_eq!(distribution(usual, Some(usual)), "isolazi");
        let other = distribution(Path::new("/data"), Some(usual));
        assert!(
            other.starts_with("isolazi-") && other.len() == 16,
            "{other}"
        );
        assert_ne!(other, distribution(Path::new("/data2"), Some(usual)));
        assert_eq!(other, distribution(Path::new("/data"), None));
    }

    #[test]
    fn both_encodings_are_understood() {
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        assert_eq!(text(&utf16("  NÄME\r\n")), "  NÄME\r\n");
        assert_eq!(text(&[&[0xff, 0xfe][..], &utf16("日本")].concat()), "日本");
        assert_eq!(text("NÄME\n".as_bytes()), "NÄME\n");
        assert_eq!(text(b""), "");
        assert_eq!(text(b"ab"), "ab");
    }
}
