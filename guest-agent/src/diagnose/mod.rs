//! What this machine has for containers and what it lacks. Looking changes nothing.

mod cgroups;
mod kernel;
mod network;

use std::path::Path;

use isolazi_protocol::{Finding, Grade};
use nix::sys::statvfs::statvfs;

const MIB: u64 = 1 << 20;
/// An ordinary image with its layers unpacked takes about this much.
const LITTLE_SPACE: u64 = 2048 * MIB;
/// Not even a container's own files fit any more.
const NO_SPACE: u64 = 64 * MIB;

/// Everything, in an order in which one finding explains the next. `root` is where
/// containers are kept.
pub(crate) fn diagnose(root: &Path) -> Vec<Finding> {
    let mut findings = kernel::findings();
    findings.extend(cgroups::findings());
    findings.extend(network::findings());
    findings.push(space(root));
    findings
}

fn space(root: &Path) -> Finding {
    const SUBJECT: &str = "disk";
    // It may not have been made yet.
    let existing = root.ancestors().find(|it| it.exists()).unwrap_or(root);
    match statvfs(existing) {
        Ok(found) => {
            // A field's width differs between the C libraries.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            let free =
                (found.blocks_available() as u64).saturating_mul(found.fragment_size() as u64);
            graded_space(existing, free)
        }
        Err(errno) => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("cannot look at {}: {}", existing.display(), errno.desc()),
            "choose another folder with --root DIR",
        ),
    }
}

fn graded_space(folder: &Path, free: u64) -> Finding {
    let state = format!("{} MiB free in {}", free / MIB, folder.display());
    let grade = match free {
        ..NO_SPACE => Grade::Broken,
        NO_SPACE..LITTLE_SPACE => Grade::Lacking,
        _ => return Finding::good("disk", state),
    };
    Finding::bad(
        "disk",
        grade,
        state,
        "give space back with: isolazi system prune -a",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_said() {
        let grade = |free| graded_space(Path::new("/d"), free).grade;
        assert_eq!(grade(0), Grade::Broken);
        assert_eq!(grade(1 << 30), Grade::Lacking);
        assert_eq!(grade(1 << 40), Grade::Good);
    }

    #[test]
    fn a_root_that_is_not_there_yet_is_measured_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let found = space(&folder.path().join("not/yet"));
        assert!(
            found.state.contains(&folder.path().display().to_string()),
            "{found:?}"
        );
    }

    #[test]
    fn everything_is_one_line_and_what_is_bad_can_be_mended() {
        for finding in diagnose(Path::new("/")) {
            let remedy = finding.remedy.clone().unwrap_or_default();
            assert!(!finding.state.contains('\n'), "{finding:?}");
            assert!(!remedy.contains('\n'), "{finding:?}");
            assert_eq!(
                finding.grade == Grade::Good,
                remedy.is_empty(),
                "{finding:?}"
            );
        }
    }
}
