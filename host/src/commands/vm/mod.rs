//! `isolazi vm`.

mod logs;
mod size;
mod status;

use anyhow::Result;

use crate::cli::{SizeArgs, VmCommand};
use crate::commands::confirm::confirmed;
use crate::commands::{Context, setup};
use crate::machine::{MachineLog, VirtualMachine};
use crate::output;

const EVERYTHING: &str = "the virtual machine with all containers, volumes and networks in it";

pub(super) async fn vm(context: &Context, command: &VmCommand) -> Result<()> {
    let machine = context.virtual_machine()?;
    let machine = machine.as_ref();
    match command {
        VmCommand::Start(size) => {
            size::refuse_while_running(machine, size).await?;
            start(context, machine, size).await?;
        }
        VmCommand::Restart { agent: false, size } => {
            size::check(context, size)?;
            machine.stop().await?;
            start(context, machine, size).await?;
        }
        VmCommand::Restart { agent: true, .. } => {
            machine.restart_agent().await?;
            output::result("the agent runs again");
        }
        VmCommand::Stop => match machine.stop().await? {
            true => output::result("stopped"),
            false => output::result("already stopped"),
        },
        VmCommand::Status(args) => {
            status::status(context.backend()?, &machine.state().await?, args)?;
        }
        VmCommand::Info(args) => status::info(context, machine, args).await?,
        VmCommand::Resize(args) => size::resize(context, machine, args).await?,
        VmCommand::Reset { force } => reset(machine, *force).await?,
        VmCommand::Logs(args) => logs::print(machine, MachineLog::Programs, args).await?,
        VmCommand::Console(args) => logs::print(machine, MachineLog::Console, args).await?,
    }
    Ok(())
}

async fn start(context: &Context, machine: &dyn VirtualMachine, size: &SizeArgs) -> Result<()> {
    size::set(context, size)?;
    setup::ensure_machine(context).await?;
    let boot_ms = machine.start().await?;
    output::result(format!(
        "running (agent answered {boot_ms} ms after the machine's start)"
    ));
    Ok(())
}

async fn reset(machine: &dyn VirtualMachine, force: bool) -> Result<()> {
    if !force && !confirmed(&[EVERYTHING])? {
        return Ok(());
    }
    match machine.reset().await? {
        true => output::result("removed"),
        false => output::result("there is no machine"),
    }
    Ok(())
}
