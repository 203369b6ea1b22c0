//! The programs and libraries that a build needs. Missing ones are installed
//! where that can be done (root, on a system with apt), and otherwise named in
//! one line, all at once.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::command::Tail;
use crate::progress::Progress;

/// Where the compiler looks for headers, without multiarch folders: the
/// packages here install theirs in the common one.
const HEADERS: &str = "/usr/include";
const APT_LISTS: &str = "/var/lib/apt/lists";

/// Why a build's tools are not there.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// The user has to install something.
    #[error("missing {what}: {how}")]
    Missing {
        /// What is needed.
        what: String,
        /// What to do.
        how: String,
    },
    /// apt-get could not install what is missing.
    #[error("cannot install {packages}, apt-get says:\n{tail}")]
    Install {
        /// Names of the packages.
        packages: String,
        /// The last it said.
        tail: Tail,
    },
    /// apt-get could not be started.
    #[error("cannot start apt-get")]
    Start(#[source] std::io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Program,
    Header,
}

/// One thing that a build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    probe: Probe,
    package: &'static str,
}

impl Tool {
    /// A program, and Debian's package of it.
    pub(crate) const fn program(name: &'static str, package: &'static str) -> Self {
        Self {
            name,
            probe: Probe::Program,
            package,
        }
    }

    /// A C header, which stands for its library, and Debian's package of it.
    pub(crate) const fn header(name: &'static str, package: &'static str) -> Self {
        Self {
            name,
            probe: Probe::Header,
            package,
        }
    }

    /// What it is called.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    fn is_present(&self, path: &OsStr) -> bool {
        match self.probe {
            Probe::Program => in_path(self.name, path),
            Probe::Header => Path::new(HEADERS).join(self.name).is_file(),
        }
    }
}

fn in_path(program: &str, path: &OsStr) -> bool {
    env::split_paths(path).any(|folder| folder.join(program).is_file())
}

/// The search path, with the folders that only root's usually has: mke2fs is
/// there, and needs no privilege.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Makes sure that all of `tools` are there.
pub(crate) fn ensure(tools: &[Tool], progress: &mut Progress<'_>) -> Result<(), ToolsError> {
    let missing = missing(tools, &search_path());
    if missing.is_empty() {
        return Ok(());
    }
    install(&names(&missing), &packages(&missing), progress)?;
    let still = self::missing(tools, &search_path());
    if still.is_empty() {
        return Ok(());
    }
    Err(ToolsError::Missing {
        what: names(&still),
        how: "install it and build again".to_owned(),
    })
}

fn missing(tools: &[Tool], path: &OsStr) -> Vec<Tool> {
    let mut missing = tools.to_vec();
    missing.retain(|tool| !tool.is_present(path));
    missing
}

fn names(tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    names.join(", ")
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs `packages`, which bring `what`, or says how to.
pub(crate) fn install(
    what: &str,
    packages: &[&str],
    progress: &mut Progress<'_>,
) -> Result<(), ToolsError> {
    if !has_apt() || !nix::unistd::geteuid().is_root() {
        return Err(refusal(what, packages, has_apt()));
    }
    let list = packages.join(" ");
    progress.say(&format!("installing {list} …"));
    update_lists_if_missing(progress)?;
    let mut done = apt_install(packages)?;
    if !done.status.success() {
        // Lists of last month name versions that are gone.
        apt(&["update"])?;
        done = apt_install(packages)?;
    }
    if done.status.success() {
        return Ok(());
    }
    Err(ToolsError::Install {
        packages: list,
        tail: Tail::of(&String::from_utf8_lossy(&done.stderr)),
    })
}

fn refusal(what: &str, packages: &[&str], apt: bool) -> ToolsError {
    let list = packages.join(" ");
    let how = if apt {
        format!("run `sudo apt-get install {list}`")
    } else {
        format!("install what Debian has in the packages {list}")
    };
    ToolsError::Missing {
        what: what.to_owned(),
        how,
    }
}

/// Fetches apt's package lists where a fresh system has none.
pub(crate) fn update_lists_if_missing(progress: &mut Progress<'_>) -> Result<(), ToolsError> {
    if !has_apt() || !nix::unistd::geteuid().is_root() || has_lists() {
        return Ok(());
    }
    progress.say("fetching the lists of packages …");
    apt(&["update"]).map(drop)
}

fn has_apt() -> bool {
    in_path("apt-get", &search_path())
}

fn has_lists() -> bool {
    let Ok(entries) = fs::read_dir(APT_LISTS) else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().contains("_Packages"))
}

fn apt_install(packages: &[&str]) -> Result<Output, ToolsError> {
    let fixed = ["install", "--yes", "--no-install-recommends"];
    apt(&[&fixed[..], packages].concat())
}

fn apt(arguments: &[&str]) -> Result<Output, ToolsError> {
    Command::new("apt-get")
        .args(["-q"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(ToolsError::Start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const FLEX: Tool = Tool::program("flex", "flex");
    const ELF: Tool = Tool::header("no-such-header.h", "libelf-dev");

    #[test]
    fn what_is_missing_is_found_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str();
        assert_eq!(missing(&[FLEX, ELF], path), [FLEX, ELF]);
        File::create(dir.path().join("flex")).unwrap();
        assert_eq!(missing(&[FLEX, ELF], path), [ELF]);
    }

    #[test]
    fn one_line_names_everything_and_how_to_get_it() {
        let tools = [ELF, FLEX, Tool::program("lex", "flex")];
        let error = refusal(&names(&tools), &packages(&tools), true).to_string();
        let expected =
            "missing no-such-header.h, flex, lex: run `sudo apt-get install flex libelf-dev`";
        assert_eq!(error, expected);
        let elsewhere = refusal("flex", &["flex"], false).to_string();
        assert!(elsewhere.contains("packages flex"), "{elsewhere}");
    }
}
