//! A container's root, assembled without the container: an overlay that is
//! mounted nowhere and vanishes with its descriptor.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use crate::sys::fs;
use crate::sys::idmap::is_nested;
use crate::sys::mount::{FsContext, MountFlags, make_all_private};

/// As containers are launched with.
const OPTIONS: [(&CStr, &CStr); 2] = [(c"index", c"off"), (c"metacopy", c"off")];

/// What to stack.
#[derive(Debug)]
pub struct Layers<'a> {
    /// Topmost first; never empty.
    pub lower: Vec<&'a Path>,
    /// Folders for changes and for overlayfs itself; without, it is read-only.
    pub changes: Option<(&'a Path, &'a Path)>,
    /// An empty folder, which older kernels need.
    pub mount_point: &'a Path,
}

/// Stacks layers; returns the root.
pub fn assemble(layers: &Layers<'_>) -> io::Result<OwnedFd> {
    if let ([only], None) = (layers.lower.as_slice(), layers.changes) {
        // Nothing to stack, which overlayfs refuses.
        return fs::open_dir(only);
    }
    match detached(layers) {
        // Before Linux 6.8 there is no `lowerdir+`.
        Err(Errno::EINVAL) => in_own_namespace(layers),
        other => other.map_err(io::Error::from),
    }
}

fn detached(layers: &Layers<'_>) -> Result<OwnedFd, Errno> {
    let overlay = FsContext::open(c"overlay")?;
    for layer in &layers.lower {
        overlay.set(c"lowerdir+", &c_path(layer)?)?;
    }
    if let Some((upper, work)) = layers.changes {
        overlay.set(c"upperdir", &c_path(upper)?)?;
        overlay.set(c"workdir", &c_path(work)?)?;
    }
    for (key, value) in OPTIONS {
        overlay.set(key, value)?;
    }
    if is_nested() {
        overlay.flag(c"userxattr")?;
    }
    overlay.mount(flags(layers))
}

fn flags(layers: &Layers<'_>) -> MountFlags {
    match layers.changes {
        Some(_) => MountFlags::NO_DEV_SUID,
        None => MountFlags::NO_DEV_SUID | MountFlags::READ_ONLY,
    }
}

/// mount(2) in a mount namespace of a thread that then ends. The mount stays
/// as long as the descriptor does.
fn in_own_namespace(layers: &Layers<'_>) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            make_all_private()?;
            mount_in_one_line(layers)
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

fn mount_in_one_line(layers: &Layers<'_>) -> io::Result<OwnedFd> {
    let open = |folder: &Path| fs::open_dir(folder);
    let lower: Vec<_> = layers
        .lower
        .iter()
        .map(|layer| open(layer))
        .collect::<Result<_, _>>()?;
    let stacked: Vec<_> = lower.iter().map(by_descriptor).collect();
    let mut options = format!(
        "lowerdir={},index=off,metacopy=off,redirect_dir=nofollow{}",
        stacked.join(":"),
        if is_nested() { ",userxattr" } else { "" }
    );
    let changes = layers.changes;
    let changes = changes.map(|(upper, work)| Ok::<_, io::Error>((open(upper)?, open(work)?)));
    let changes = changes.transpose()?;
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    match &changes {
        Some((upper, work)) => {
            let (upper, work) = (by_descriptor(upper), by_descriptor(work));
            options = format!("{options},upperdir={upper},workdir={work}");
        }
        None => flags |= MsFlags::MS_RDONLY,
    }
    let overlay = Some("overlay");
    let options = Some(options.as_str());
    nix::mount::mount(overlay, layers.mount_point, overlay, flags, options)?;
    fs::open_dir(layers.mount_point)
}

fn by_descriptor(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    type Way = fn(&Layers<'_>) -> io::Result<OwnedFd>;

    fn read(root: &OwnedFd, name: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
    }

    #[test]
    fn both_ways_stack_layers_and_leave_no_mount() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let ways: [Way; 2] = [assemble, in_own_namespace];
        for way in ways {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            for name in ["top", "bottom", "upper", "work", "mount"] {
                std::fs::create_dir(path(name)).unwrap();
            }
            std::fs::write(path("bottom/a"), "bottom").unwrap();
            std::fs::write(path("bottom/b"), "bottom").unwrap();
            std::fs::write(path("top/a"), "top").unwrap();
            let (top, bottom) = (path("top"), path("bottom"));
            let (upper, work, mount_point) = (path("upper"), path("work"), path("mount"));
            let mut layers = Layers {
                lower: vec![&top, &bottom],
                changes: None,
                mount_point: &mount_point,
            };
            let root = way(&layers).unwrap();
            assert_eq!(read(&root, "a").unwrap(), "top");
            assert_eq!(read(&root, "b").unwrap(), "bottom");
            let refused = fs::create_file_at(root.as_fd(), b"c").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
            layers.changes = Some((&upper, &work));
            let root = way(&layers).unwrap();
            fs::create_file_at(root.as_fd(), b"c").unwrap();
            assert!(path("upper/c").exists());
            assert_eq!(std::fs::read_dir(&mount_point).unwrap().count(), 0);
        }
    }
}
