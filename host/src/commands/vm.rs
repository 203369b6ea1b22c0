//! `isolazi vm`.

use anyhow::Result;

use crate::cli::VmCommand;
use crate::commands::{Context, setup};
use crate::machine::appliance::{self, Appliance};
use crate::machine::qemu::{self, MachineState, Qemu};
use crate::output;

pub(super) async fn vm(context: &Context, command: VmCommand) -> Result<()> {
    let machine = Qemu::new(&context.paths)?;
    match command {
        VmCommand::Start => {
            setup::ensure_machine(&context.paths).await?;
            let ready = machine.start().await?;
            output::result(format!(
                "running (agent answered {} ms after QEMU's start)",
                ready.boot_ms
            ));
        }
        VmCommand::Stop => match machine.stop().await? {
            true => output::result("stopped"),
            false => output::result("already stopped"),
        },
        VmCommand::Status => status(&machine.state().await?),
        VmCommand::Info => info(context),
    }
    Ok(())
}

fn status(state: &MachineState) {
    match state {
        MachineState::Stopped => output::result("machine:     stopped"),
        MachineState::Booting => output::result("machine:     booting"),
        MachineState::Running {
            pid,
            accelerator,
            boot_ms,
            shares,
        } => {
            output::result(format!(
                "machine:     running (QEMU, process {pid}, {accelerator})"
            ));
            output::result(format!("boot:        {boot_ms} ms"));
            for folder in shares {
                output::result(format!(
                    "shared:      {}",
                    output::printable(&folder.to_string_lossy())
                ));
            }
        }
    }
    let program = qemu::program();
    match qemu::find_program(&program) {
        Some(path) => output::result(format!("hypervisor:  {}", path.display())),
        None => output::result(format!(
            "hypervisor:  {program} is not installed (Debian, Ubuntu: apt-get install qemu-system-x86)"
        )),
    }
}

fn info(context: &Context) {
    let layout = context.paths.machine();
    let folder = appliance::folder(&context.paths);
    output::result(format!("machine:     {}", layout.display()));
    output::result(format!(
        "console:     {}",
        layout.join("console.log").display()
    ));
    output::result(format!("appliance:   {}", folder.display()));
    match Appliance::open(&folder) {
        Ok(appliance) => output::result(format!("kernel:      {}", appliance.kernel_version())),
        Err(error) => output::result(format!("kernel:      {:#}", anyhow::Error::from(error))),
    }
}
