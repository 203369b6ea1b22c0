//! What `--vm` needs and a fresh machine does not have: the appliance, which a
//! checkout builds on first use.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::machine::MachineError;
use crate::machine::appliance::{self, Appliance};
use crate::output;
use crate::paths::Paths;

/// The checkout that this program was built in.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Builds the appliance where none is installed that fits this program.
pub(super) async fn ensure_appliance(paths: &Paths) -> Result<()> {
    let folder = appliance::folder(paths);
    let reason = match Appliance::open(&folder) {
        Ok(_) => return Ok(()),
        Err(error @ (MachineError::NoAppliance(_) | MachineError::BadAppliance { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    let checkout = Path::new(CHECKOUT);
    let named = std::env::var_os(appliance::LOCATION_VARIABLE).is_some();
    if named || !checkout.join("image-builder/Cargo.toml").exists() {
        return Err(reason.into());
    }
    output::progress(
        "Building the virtual machine's kernel and agent, which is needed once and takes some minutes",
    );
    let status = tokio::process::Command::new("cargo")
        .args("run --release --quiet --package isolazi-image-builder -- build --output".split(' '))
        .arg(&folder)
        .current_dir(checkout)
        .status()
        .await
        .context("cannot run cargo to build the appliance")?;
    match status.success() {
        true => Ok(()),
        false => bail!("the appliance could not be built; the lines above say why"),
    }
}
