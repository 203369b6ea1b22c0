//! Filling an empty volume with what the image has in its place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::renameat;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::store::DATA;
use crate::rootfs::copy::{Attributes, Owners, tree};
use crate::rootfs::remove_at;
use crate::sys::fs::{list_dir, move_new, open_dir, open_dir_at};

const LOCK: &str = "lock";
const COPYING: &str = ".copying";
const COPIED: &str = ".copied";

/// Copies the content and attributes of the folder `image` into the volume at
/// `volume`, if that is empty. An interrupted copy is begun anew, and one that
/// was complete is carried on with. Others may have the volume meanwhile: what
/// they put there is kept.
pub fn fill(volume: &Path, image: BorrowedFd<'_>) -> io::Result<()> {
    let lock = File::create(volume.join(LOCK))?;
    lock.lock()?;
    let folder = open_dir(volume)?;
    let folder = folder.as_fd();
    let data = open_dir_at(folder, DATA.as_bytes())?;
    if volume.join(COPIED).is_dir() {
        return move_in(folder, data.as_fd());
    }
    if !list_dir(data.as_fd())?.is_empty() {
        return Ok(());
    }
    remove_at(folder, COPYING.as_bytes())?;
    mkdirat(folder, COPYING, Mode::S_IRWXU)?;
    let copy = open_dir_at(folder, COPYING.as_bytes())?;
    if let Err(error) = tree(image, copy.as_fd(), &Owners::Same) {
        // A disk that is full must not stay so because of this.
        let _ = remove_at(folder, COPYING.as_bytes());
        return Err(error);
    }
    renameat(folder, COPYING, folder, COPIED)?;
    move_in(folder, data.as_fd())
}

/// Gives the volume at `volume` to a user and a group, if nobody has had it yet: it is
/// empty, and root's.
pub fn give(volume: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    let data = open_dir_at(open_dir(volume)?.as_fd(), DATA.as_bytes())?;
    let stat = fstat(&data)?;
    if (stat.st_uid, stat.st_gid) != (0, 0) || !list_dir(data.as_fd())?.is_empty() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    Ok(fchown(&data, Some(user), Some(group))?)
}

fn move_in(folder: BorrowedFd<'_>, data: BorrowedFd<'_>) -> io::Result<()> {
    let copied = open_dir_at(folder, COPIED.as_bytes())?;
    // Its modification time is the image's until something is moved.
    let attributes = Attributes::of(copied.as_fd())?;
    for name in list_dir(copied.as_fd())? {
        match move_new(copied.as_fd(), data, &name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    attributes.apply(data, &Owners::Same)?;
    remove_at(folder, COPIED.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    struct Place {
        _folder: tempfile::TempDir,
        image: PathBuf,
        volume: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (image, volume) = (folder.path().join("image"), folder.path().join("volume"));
        fs::create_dir_all(image.join("sub/deep")).unwrap();
        fs::create_dir_all(volume.join(DATA)).unwrap();
        fs::write(image.join("file"), "content").unwrap();
        fs::write(image.join("sub/deep/other"), "other").unwrap();
        Place {
            _folder: folder,
            image,
            volume,
        }
    }

    impl Place {
        fn fill(&self) {
            fill(&self.volume, open_dir(&self.image).unwrap().as_fd()).unwrap();
        }

        fn data(&self, name: &str) -> PathBuf {
            self.volume.join(DATA).join(name)
        }
    }

    #[test]
    fn everything_comes_along_as_it_was() {
        let place = place();
        let mode = |bits| fs::Permissions::from_mode(bits);
        fs::set_permissions(place.image.join("file"), mode(0o4751)).unwrap();
        fs::set_permissions(&place.image, mode(0o1770)).unwrap();
        symlink("/etc/passwd", place.image.join("link")).unwrap();
        fs::hard_link(place.image.join("file"), place.image.join("sub/hard")).unwrap();
        let fifo = place.image.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        place.fill();
        assert_eq!(fs::read_to_string(place.data("file")).unwrap(), "content");
        assert_eq!(
            fs::read_to_string(place.data("sub/deep/other")).unwrap(),
            "other"
        );
        assert_eq!(
            fs::read_link(place.data("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        let (file, hard) = (place.data("file"), place.data("sub/hard"));
        let (file, hard) = (fs::metadata(file).unwrap(), fs::metadata(hard).unwrap());
        assert_eq!((file.ino(), file.nlink()), (hard.ino(), 2));
        assert_eq!(file.mode() & 0o7777, 0o4751);
        let data = fs::metadata(place.data("")).unwrap();
        assert_eq!(data.mode() & 0o7777, 0o1770);
        let of = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap();
        assert_eq!(of(&place.data("sub")), of(&place.image.join("sub")));
        assert_eq!(of(&place.data("link")), of(&place.image.join("link")));
        assert!(!place.volume.join(COPYING).exists());
        assert!(!place.volume.join(COPIED).exists());
    }

    #[test]
    fn a_volume_with_something_in_it_is_left_alone() {
        let place = place();
        fs::write(place.data("mine"), "").unwrap();
        place.fill();
        assert!(!place.data("file").exists());
    }

    #[test]
    fn an_interrupted_copy_is_begun_anew() {
        let place = place();
        fs::create_dir_all(place.volume.join(COPYING).join("half")).unwrap();
        place.fill();
        assert!(place.data("file").exists());
        assert!(!place.data("half").exists());
    }

    #[test]
    fn a_complete_copy_is_carried_on_with() {
        let place = place();
        fs::create_dir(place.volume.join(COPIED)).unwrap();
        fs::write(place.volume.join(COPIED).join("late"), "late").unwrap();
        fs::write(place.volume.join(COPIED).join("both"), "image").unwrap();
        fs::write(place.data("both"), "mine").unwrap();
        place.fill();
        assert!(place.data("late").exists());
        assert_eq!(fs::read_to_string(place.data("both")).unwrap(), "mine");
        assert!(!place.volume.join(COPIED).exists());
    }

    #[test]
    fn what_is_too_deep_is_refused_and_leaves_nothing() {
        let place = place();
        let mut deep = place.image.clone();
        (0..300).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).unwrap();
        let refused = fill(&place.volume, open_dir(&place.image).unwrap().as_fd());
        assert!(refused.is_err());
        assert!(!place.volume.join(COPYING).exists());
        assert!(!place.data("file").exists());
    }
}
