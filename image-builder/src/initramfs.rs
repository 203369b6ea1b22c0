//! The guest's boot image: the agent as `/init`, and the places it mounts on.

use crate::cpio::{Archive, Device, TooLarge};

/// Places that the agent mounts on, parents first.
const FOLDERS: [&str; 9] = [
    ".root",
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var",
    "var/lib",
    "var/lib/isolazi",
];

/// What the kernel opens as standard input and outputs of `/init`.
const CONSOLE: Device = Device { major: 5, minor: 1 };

/// The archive with `agent` in it.
pub(crate) fn build(agent: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder, 0o755);
    }
    archive.character_device("dev/console", 0o600, CONSOLE);
    archive.file("init", 0o755, agent)?;
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_what_is_in_them() {
        for (index, folder) in FOLDERS.iter().enumerate() {
            if let Some((parent, _)) = folder.rsplit_once('/') {
                assert!(FOLDERS[..index].contains(&parent), "{folder}");
            }
        }
    }
}
