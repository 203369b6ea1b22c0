//! What can be told about this host without any engine.

use std::path::Path;

use isolazi_protocol::{Finding, Grade};

use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::{Backend, find_program};
use crate::paths::Paths;

pub(super) fn findings(paths: &Paths) -> Vec<Finding> {
    let version = format!(
        "{} on {} ({})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    vec![
        Finding::good("version", version),
        Finding::good("settings", settings(&paths.config())),
        data_root(paths.root()),
    ]
}

/// They have been read already.
fn settings(path: &Path) -> String {
    match path.exists() {
        true => path.display().to_string(),
        false => format!("the defaults, as there is no {}", path.display()),
    }
}

/// Whether files can be made there, or where it will be.
fn data_root(root: &Path) -> Finding {
    const SUBJECT: &str = "data";
    let existing = root.ancestors().find(|it| it.is_dir()).unwrap_or(root);
    match tempfile::NamedTempFile::new_in(existing) {
        Ok(_) => Finding::good(SUBJECT, root.display().to_string()),
        Err(error) => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("nothing can be written in {}: {error}", existing.display()),
            "choose another folder with --root DIR or ISOLAZI_HOME",
        ),
    }
}

/// Whether the backend's program is there.
pub(super) fn hypervisor(backend: Backend) -> Finding {
    const SUBJECT: &str = "hypervisor";
    let program = backend.program();
    match find_program(&program) {
        Some(path) => Finding::good(SUBJECT, format!("{backend} ({})", path.display())),
        None => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("{program} is not installed"),
            backend.remedy(),
        ),
    }
}

/// Whether there is something to boot.
pub(super) fn appliance(paths: &Paths, backend: Backend) -> Finding {
    const SUBJECT: &str = "appliance";
    let folder = appliance::folder(paths);
    let checked = Appliance::open(&folder).and_then(|it| it.kernel().map(|_| it));
    match checked {
        Ok(found) => Finding::good(
            SUBJECT,
            format!("kernel {} in {}", found.kernel_version(), folder.display()),
        ),
        Err(error) => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("{:#}", anyhow::Error::from(error)),
            format!("it is made when the machine first starts, from a checkout, for {backend}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_where_nothing_can_be_written_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_root(&folder.path().join("a/b")).grade, Grade::Good);
        assert_eq!(data_root(Path::new("/proc/no/place")).grade, Grade::Broken);
    }

    #[test]
    fn a_missing_appliance_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("appliance")).unwrap();
        let paths = Paths::new(folder.path().to_owned());
        std::fs::write(paths.appliance().join("manifest.json"), "{}").unwrap();
        let found = appliance(&paths, Backend::Qemu);
        assert_eq!(found.grade, Grade::Broken, "{found:?}");
    }
}
