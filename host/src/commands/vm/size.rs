//! How large the machine is to be: `isolazi vm resize`, and options of others.

use anyhow::{Result, bail};

use crate::cli::SizeArgs;
use crate::commands::Context;
use crate::config::Config;
use crate::machine::{Backend, MachineSize, VirtualMachine, size};
use crate::output::{self, binary_size};

/// Takes effect when the machine starts next.
pub(super) async fn resize(
    context: &Context,
    machine: &dyn VirtualMachine,
    args: &SizeArgs,
) -> Result<()> {
    if *args == SizeArgs::default() {
        bail!("nothing to change; give --cpus, --memory or --disk");
    }
    set(context, args)?;
    output::result(format!(
        "size: {}",
        given(args)?.over(context.config.machine.size()).describe()
    ));
    if machine.is_running().await? {
        output::note("it takes effect when the machine starts again: isolazi vm restart");
    }
    Ok(())
}

/// A machine that runs keeps its size.
pub(super) async fn refuse_while_running(
    machine: &dyn VirtualMachine,
    args: &SizeArgs,
) -> Result<()> {
    if *args != SizeArgs::default() && machine.is_running().await? {
        bail!(
            "the machine runs already, with the size that it has; use: isolazi vm restart with the same options"
        );
    }
    Ok(())
}

/// Keeps what is given in the settings.
pub(super) fn set(context: &Context, args: &SizeArgs) -> Result<()> {
    let size = check(context, args)?;
    if !size.is_default() {
        Config::set_machine_size(&context.paths.config(), size)?;
    }
    Ok(())
}

/// Whether the machine can have the size.
pub(super) fn check(context: &Context, args: &SizeArgs) -> Result<MachineSize> {
    let size = given(args)?;
    if context.backend()? == Backend::Wsl2 && !size.is_default() {
        bail!(
            "the subsystem's machine is shared by all distributions; set its processors and memory below [wsl2] in .wslconfig, in your home folder"
        );
    }
    let present = std::fs::metadata(context.paths.machine_disk()).map_or(0, |it| it.len());
    if let Some(disk) = size.disk.filter(|disk| *disk < present) {
        bail!(
            "the machine's disk has {} and cannot shrink to {}; remove the machine with what is in it first: isolazi vm reset",
            binary_size(present),
            binary_size(disk)
        );
    }
    Ok(size)
}

fn given(args: &SizeArgs) -> Result<MachineSize> {
    Ok(MachineSize {
        cpus: args.cpus.as_deref().map(size::cpus).transpose()?,
        memory: args.memory.as_deref().map(size::memory).transpose()?,
        disk: args.disk.as_deref().map(size::disk).transpose()?,
    })
}
