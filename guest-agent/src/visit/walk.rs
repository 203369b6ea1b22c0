//! Everything below a folder, each folder before what is in it and names in
//! order, while the tree may change. Neither the stack nor the number of
//! descriptors grows with the depth.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::ResolveFlag;

use super::VisitError;
use super::entry::Entry;
use super::place::join;

/// A walk below a root.
pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    further: ResolveFlag,
    ahead: Vec<Folder>,
}

/// A folder that was entered, and what is still to visit in it.
struct Folder {
    path: Vec<u8>,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl<'a> Walk<'a> {
    /// A walk below `root`, which keeps to the `further` restrictions.
    pub(super) fn new(root: BorrowedFd<'a>, further: ResolveFlag) -> Self {
        Self {
            root,
            further,
            ahead: Vec::new(),
        }
    }

    /// Begins with `path`, which must exist.
    pub(super) fn start(&mut self, path: &[u8]) -> Result<(), VisitError> {
        let start = Entry::open(self.root, path, self.further);
        start.map_err(VisitError::io("read", path))?;
        self.ahead.push(Folder {
            path: Vec::new(),
            names: vec![path.to_vec()].into_iter(),
        });
        Ok(())
    }

    /// The next thing. What has vanished since its folder was read, or is
    /// something else's mount where that is not wanted, is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, VisitError> {
        while let Some(folder) = self.ahead.last_mut() {
            let Some(name) = folder.names.next() else {
                self.ahead.pop();
                continue;
            };
            let path = join(&folder.path, &name);
            match Entry::open(self.root, &path, self.further) {
                Ok(entry) => return Ok(Some(entry)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(VisitError::io("read", &path)(error)),
            }
        }
        Ok(None)
    }

    /// Visits what is in a folder, next.
    pub(super) fn descend(&mut self, entry: &Entry) -> Result<(), VisitError> {
        let names = match entry.names() {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other.map_err(VisitError::io("list", &entry.path))?,
        };
        self.ahead.push(Folder {
            path: entry.path.clone(),
            names: names.into_iter(),
        });
        Ok(())
    }
}

/// Whether something was there a moment ago.
pub(super) fn is_gone(error: &std::io::Error) -> bool {
    let gone = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EXDEV];
    gone.iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}
