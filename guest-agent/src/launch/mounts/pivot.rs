//! Making the new root the root.

use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, fchdir, pivot_root};

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::resolve::Root;

/// Exchanges the roots and detaches the old one.
///
/// With `.` for both folders the old root ends up mounted over the new one
/// (pivot_root(2)), so no folder is needed to put it in; unmounting it lets go
/// of every mount of the machine.
pub(super) fn enter(root: &Root) -> Result<(), LaunchError> {
    let steps = || {
        fchdir(root)?;
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    steps().at(Stage::Pivot, || "make the overlay the root")
}
