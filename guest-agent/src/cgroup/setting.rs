//! One limit, as files of a controller.

use std::fs;
use std::path::Path;

use super::{LimitError, place};
use crate::sys::idmap::is_nested;

/// One limit, as what is to be written where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) what: &'static str,
    pub(super) option: &'static str,
    pub(super) controller: &'static str,
    /// In this order.
    pub(super) writes: Vec<Write>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The first of these that is there.
    pub(super) files: &'static [&'static str],
    pub(super) value: String,
    /// Nobody asked for it: it may be missing.
    pub(super) optional: bool,
}

pub(super) fn write(files: &'static [&'static str], value: impl std::fmt::Display) -> Write {
    Write {
        files,
        value: value.to_string(),
        optional: false,
    }
}

/// Writes all of it, as far as the first that is refused.
pub(super) fn apply(setting: &Setting, folder: &Path) -> Result<(), LimitError> {
    for write in &setting.writes {
        let mut paths = write.files.iter().map(|file| folder.join(file));
        let Some(path) = paths.find(|path| path.exists()) else {
            if write.optional {
                continue;
            }
            return Err(missing(setting, format!("{} (cgroups)", write.files[0])));
        };
        fs::write(&path, tamed(&path, &write.value)).map_err(|source| LimitError::Refused {
            what: setting.what,
            value: write.value.clone(),
            source,
        })?;
    }
    Ok(())
}

/// A value within what a file takes.
fn tamed(path: &Path, value: &str) -> String {
    match (path.ends_with("io.bfq.weight"), value.parse::<u64>()) {
        (true, Ok(weight)) => weight.clamp(1, 1000).to_string(),
        _ => value.to_owned(),
    }
}

/// What the kernel calls the part of it that keeps such limits.
pub(super) fn controller_of(setting: &Setting) -> String {
    format!("{} controller (cgroups)", setting.controller)
}

/// This machine `lacks` what the limit takes.
pub(super) fn missing(setting: &Setting, lacks: String) -> LimitError {
    let (what, option) = (setting.what, setting.option);
    if is_nested() {
        let controller = setting.controller;
        return match place::own_hierarchies("isolazi").is_empty() {
            true => LimitError::NotDelegated { what, option },
            false => LimitError::ControllerNotDelegated {
                what,
                controller,
                option,
            },
        };
    }
    LimitError::Missing {
        what: setting.what,
        lacks,
        option: setting.option,
    }
}
