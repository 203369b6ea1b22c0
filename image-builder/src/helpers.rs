//! Programs that run beside the hypervisor, from crates.io, built for this
//! machine.

use std::path::{Path, PathBuf};

use isolazi_protocol::appliance::VIRTIOFS_HELPER;

use crate::agent::cargo;
use crate::cache::{Cache, Names, Piece};
use crate::command::Log;
use crate::error::BuildError;
use crate::key::Key;
use crate::progress::Progress;
use crate::tools::{self, Tool};

/// To be counted up when the way helpers are built changes.
const RECIPE: u32 = 1;

/// A program of another project.
#[derive(Debug)]
pub(crate) struct Helper {
    /// Name of its crate and of its executable.
    pub(crate) name: &'static str,
    /// The version that isolazi is tested with.
    version: &'static str,
    needs: &'static [Tool],
}

/// All helpers of an appliance.
pub(crate) const HELPERS: [Helper; 1] = [Helper {
    name: VIRTIOFS_HELPER,
    version: "1.14.0",
    needs: &[
        Tool::header("cap-ng.h", "libcap-ng-dev"),
        Tool::header("seccomp.h", "libseccomp-dev"),
    ],
}];

/// The helper, built now unless it was before.
pub(crate) fn provide(
    helper: &Helper,
    cache: &Cache,
    progress: &mut Progress<'_>,
) -> Result<Piece, BuildError> {
    let Helper { name, version, .. } = helper;
    let key = Key::new("helper", RECIPE)
        .with(name)
        .with(version)
        .with(std::env::consts::ARCH);
    if let Some(piece) = cache.find(name, &key, name) {
        progress.say(&format!("{name} {version}, built before"));
        return Ok(piece);
    }
    tools::ensure(helper.needs, progress)?;
    let log = Log::create(cache.log(name))?;
    progress.say(&format!(
        "building {name} {version} (first time only, a few minutes; log in {}) …",
        log.path().display()
    ));
    cache.make(name, &key, &Names::only(name), |work| {
        let installed = install(helper, &work.join("install"), &log)?;
        std::fs::rename(&installed, work.join(name))
            .map_err(crate::files::failed("keep", &installed))?;
        Ok((*version).to_owned())
    })
}

fn install(helper: &Helper, root: &Path, log: &Log) -> Result<PathBuf, BuildError> {
    let mut command = cargo();
    command.args([
        "install",
        "--locked",
        "--no-track",
        "--version",
        helper.version,
    ]);
    command.arg("--root").arg(root).arg(helper.name);
    // Not into the checkout's own target folder, which this is no part of.
    command.env("CARGO_TARGET_DIR", root.with_file_name("target"));
    log.run(&mut command)?;
    Ok(root.join("bin").join(helper.name))
}
