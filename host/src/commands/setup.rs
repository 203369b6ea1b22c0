//! What `--vm` needs and a fresh machine does not have: the appliance, which a
//! release unpacks and a checkout builds on first use, and the hypervisor.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::commands::Context;
use crate::machine::appliance;
use crate::machine::backend::find_program;
use crate::machine::{Backend, MachineError};
use crate::output;

/// The checkout that this program was built in.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Unpacks the appliance that this program brings along; where it brings none, builds
/// it where none is installed that fits this program, and installs the hypervisor
/// where it is missing. Whoever names an appliance (`ISOLAZI_APPLIANCE`) looks after
/// both.
pub(super) async fn ensure_machine(context: &Context) -> Result<()> {
    let folder = appliance::folder(&context.paths);
    let named = std::env::var_os(appliance::LOCATION_VARIABLE).is_some();
    let checkout = Path::new(CHECKOUT);
    let can_build = !named && checkout.join("image-builder/Cargo.toml").exists();
    let unpacking = || output::progress("Unpacking the virtual machine's kernel and agent");
    match appliance::provide(&context.paths, unpacking) {
        Ok(_) => {}
        Err(MachineError::NoAppliance(_) | MachineError::BadAppliance { .. }) if can_build => {
            output::progress(
                "Building the virtual machine's kernel and agent, which is needed once and takes some minutes",
            );
            let arguments = ["build".as_ref(), "--output".as_ref(), folder.as_os_str()];
            run_builder(checkout, &arguments, "the appliance could not be built").await?;
        }
        Err(error) => return Err(error.into()),
    }
    if can_build
        && context.backend()? == Backend::Qemu
        && find_program(&Backend::Qemu.program()).is_none()
    {
        let failure = "QEMU could not be installed";
        run_builder(checkout, &["hypervisor".as_ref()], failure).await?;
    }
    Ok(())
}

async fn run_builder(checkout: &Path, arguments: &[&OsStr], failure: &str) -> Result<()> {
    let status = tokio::process::Command::new("cargo")
        .args("run --release --quiet --package isolazi-image-builder --".split(' '))
        .args(arguments)
        .current_dir(checkout)
        .status()
        .await
        .context("cannot run cargo to set the virtual machine up")?;
    match status.success() {
        true => Ok(()),
        false => bail!("{failure}; the lines above say why"),
    }
}
