//! `isolazi vm`.

use anyhow::Result;
use isolazi_protocol::Reply;
use serde_json::{Value, json};

use crate::cli::{FormatArgs, VmCommand};
use crate::commands::{Context, setup};
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::{Backend, find_program};
use crate::machine::{MachineState, VirtualMachine};
use crate::output::{self, binary_size};

pub(super) async fn vm(context: &Context, command: &VmCommand) -> Result<()> {
    let machine = context.virtual_machine()?;
    match command {
        VmCommand::Start => start(context, machine.as_ref()).await?,
        VmCommand::Restart { agent: false } => {
            machine.stop().await?;
            start(context, machine.as_ref()).await?;
        }
        VmCommand::Restart { agent: true } => {
            machine.restart_agent().await?;
            output::result("the agent runs again");
        }
        VmCommand::Stop => match machine.stop().await? {
            true => output::result("stopped"),
            false => output::result("already stopped"),
        },
        VmCommand::Status(args) => status(context.backend()?, &machine.state().await?, args)?,
        VmCommand::Info(args) => info(context, machine.as_ref(), args).await?,
    }
    Ok(())
}

async fn start(context: &Context, machine: &dyn VirtualMachine) -> Result<()> {
    setup::ensure_machine(context).await?;
    let boot_ms = machine.start().await?;
    output::result(format!(
        "running (agent answered {boot_ms} ms after the machine's start)"
    ));
    Ok(())
}

/// For the eye, or as a template has it.
fn print(fields: &Value, args: &FormatArgs, lines: impl FnOnce()) -> Result<()> {
    match args.template()? {
        Some(template) => output::result(template.line(fields)?),
        None => lines(),
    }
    Ok(())
}

fn status(backend: Backend, state: &MachineState, args: &FormatArgs) -> Result<()> {
    let program = backend.program();
    let hypervisor = find_program(&program);
    let mut fields = state_fields(state);
    fields["Hypervisor"] = json!({
        "Name": program,
        "Path": hypervisor.as_ref().map(|path| path.to_string_lossy()),
    });
    print(&fields, args, || {
        status_lines(state);
        match &hypervisor {
            Some(path) => output::result(format!("hypervisor:  {}", path.display())),
            None => output::result(format!(
                "hypervisor:  {program} is not installed; {}",
                backend.remedy()
            )),
        }
    })
}

fn state_fields(state: &MachineState) -> Value {
    let idle = |state| json!({ "State": state, "Pid": null, "Accelerator": null, "BootMs": null, "Shares": [] });
    match state {
        MachineState::Stopped => idle("stopped"),
        MachineState::Booting => idle("booting"),
        MachineState::Running {
            pid,
            accelerator,
            boot_ms,
            shares,
        } => json!({
            "State": "running",
            "Pid": pid,
            "Accelerator": accelerator.to_string(),
            "BootMs": boot_ms,
            "Shares": shares.iter().map(|it| it.to_string_lossy()).collect::<Vec<_>>(),
        }),
    }
}

fn status_lines(state: &MachineState) {
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
                "machine:     running ({}{accelerator})",
                pid.map(|pid| format!("process {pid}, "))
                    .unwrap_or_default()
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
}

async fn info(context: &Context, machine: &dyn VirtualMachine, args: &FormatArgs) -> Result<()> {
    let layout = context.paths.machine();
    let console = layout.join("console.log");
    let folder = appliance::folder(&context.paths);
    let kernel = Appliance::open(&folder).map(|it| it.kernel_version().to_owned());
    let brought = appliance::is_own(&context.paths);
    let agent = match machine.activity().await? {
        Some(Reply::Activity {
            containers,
            resident,
            ..
        }) => Some((containers, resident)),
        _ => None,
    };
    let fields = json!({
        "Machine": layout.to_string_lossy(),
        "Console": console.to_string_lossy(),
        "Appliance": folder.to_string_lossy(),
        "ApplianceEmbedded": brought,
        "KernelVersion": kernel.as_ref().ok(),
        "ActiveContainers": agent.map(|(containers, _)| containers),
        "AgentMemory": agent.map(|(_, resident)| resident),
    });
    print(&fields, args, || {
        output::result(format!("machine:     {}", layout.display()));
        output::result(format!("console:     {}", console.display()));
        let origin = if brought { ", from this program" } else { "" };
        output::result(format!("appliance:   {}{origin}", folder.display()));
        match kernel {
            Ok(version) => output::result(format!("kernel:      {version}")),
            Err(error) => output::result(format!("kernel:      {:#}", anyhow::Error::from(error))),
        }
        if let Some((containers, resident)) = agent {
            let size = binary_size(resident);
            output::result(format!(
                "agent:       {size} of memory, {containers} active containers"
            ));
        }
    })
}
