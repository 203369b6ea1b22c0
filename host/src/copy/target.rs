//! Where a copy goes: Docker's rules, in one place for both directions.
//!
//! ```text
//!  source   target                      becomes
//!  file     missing                     target
//!  file     missing, ends in /          refused
//!  file     file                        target, replaced
//!  any      folder                      target/NAME
//!  folder   missing                     target
//!  folder   file                        refused
//!  folder/. folder                      its content, in target
//! ```

use isolazi_protocol::PathKind;

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Only what is in the folder.
    pub content_only: bool,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What is there.
    pub kind: Option<PathKind>,
    /// Whether it was written as a folder's path.
    pub says_folder: bool,
}

/// What the copy becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes<'a> {
    /// The target itself, in the folder that holds it.
    Target,
    /// Something of this name in the folder that is the target.
    Inside(&'a str),
    /// The content of the folder that is the target.
    Content,
}

/// Why nothing can be copied there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A file cannot make the folder it is to lie in.
    #[error("the folder does not exist; create it first, or leave out the / at the end")]
    NoFolder,
    /// A folder cannot become a file.
    #[error("it is a file, and what is copied is a folder")]
    FolderOverFile,
    /// The path ends in a slash.
    #[error("it is a file, not a folder")]
    NotAFolder,
}

/// Applies the rules.
pub fn settle<'a>(source: Source<'a>, target: Target) -> Result<Becomes<'a>, TargetError> {
    match target.kind {
        Some(PathKind::Folder) => Ok(match (source.content_only, source.name) {
            (false, Some(name)) => Becomes::Inside(name),
            _ => Becomes::Content,
        }),
        Some(_) if source.is_folder => Err(TargetError::FolderOverFile),
        Some(_) if target.says_folder => Err(TargetError::NotAFolder),
        None if target.says_folder && !source.is_folder => Err(TargetError::NoFolder),
        Some(_) | None => Ok(Becomes::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_table() {
        let file = Source {
            is_folder: false,
            content_only: false,
            name: Some("n"),
        };
        let folder = Source {
            is_folder: true,
            ..file
        };
        let content = Source {
            content_only: true,
            ..folder
        };
        let root = Source {
            name: None,
            ..folder
        };
        let (is_file, is_folder) = (Some(PathKind::File), Some(PathKind::Folder));
        use Becomes::{Content, Inside, Target as Itself};
        for (source, kind, says_folder, expected) in [
            (file, None, false, Ok(Itself)),
            (file, None, true, Err(TargetError::NoFolder)),
            (file, is_file, false, Ok(Itself)),
            (file, is_file, true, Err(TargetError::NotAFolder)),
            (file, is_folder, false, Ok(Inside("n"))),
            (folder, None, false, Ok(Itself)),
            (folder, None, true, Ok(Itself)),
            (folder, is_file, false, Err(TargetError::FolderOverFile)),
            (folder, is_folder, true, Ok(Inside("n"))),
            (content, is_folder, false, Ok(Content)),
            (content, None, false, Ok(Itself)),
            (root, is_folder, false, Ok(Content)),
        ] {
            let target = Target { kind, says_folder };
            assert_eq!(settle(source, target), expected, "{source:?} {target:?}");
        }
    }
}
