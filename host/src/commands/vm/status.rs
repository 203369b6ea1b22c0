//! `isolazi vm status` and `isolazi vm info`.

use anyhow::Result;
use isolazi_protocol::Reply;
use serde_json::{Value, json};

use crate::cli::FormatArgs;
use crate::commands::Context;
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::{Backend, find_program};
use crate::machine::{MachineLog, MachineState, VirtualMachine};
use crate::output::{self, binary_size};

/// For the eye, or as a template has it.
fn print(fields: &Value, args: &FormatArgs, lines: impl FnOnce()) -> Result<()> {
    match args.template()? {
        Some(template) => output::result(template.line(fields)?),
        None => lines(),
    }
    Ok(())
}

pub(super) fn status(chosen: Backend, state: &MachineState, args: &FormatArgs) -> Result<()> {
    let mut fields = state_fields(state);
    let hypervisors = Hypervisor::all(chosen);
    fields["Backend"] = json!(chosen.to_string());
    fields["Hypervisor"] = Hypervisor::look_for(chosen).fields();
    fields["Hypervisors"] = hypervisors.iter().map(Hypervisor::fields).collect();
    print(&fields, args, || {
        status_lines(state);
        for hypervisor in &hypervisors {
            output::result(hypervisor.line(chosen));
        }
    })
}

/// What could run the machine here.
struct Hypervisor {
    backend: Backend,
    path: Option<std::path::PathBuf>,
}

impl Hypervisor {
    fn look_for(backend: Backend) -> Self {
        Self {
            backend,
            path: find_program(&backend.program()),
        }
    }

    /// Those of this system, and the one that is used in any case.
    fn all(chosen: Backend) -> Vec<Self> {
        let mut backends = Backend::of_system().to_vec();
        if !backends.contains(&chosen) {
            backends.push(chosen);
        }
        backends.into_iter().map(Self::look_for).collect()
    }

    fn fields(&self) -> Value {
        json!({
            "Name": self.backend.program(),
            "Path": self.path.as_ref().map(|path| path.to_string_lossy()),
        })
    }

    fn line(&self, chosen: Backend) -> String {
        let used = match self.backend == chosen {
            true => ", in use",
            false => "",
        };
        let (backend, program) = (self.backend, self.backend.program());
        match &self.path {
            Some(path) => format!("hypervisor:  {backend} ({}{used})", path.display()),
            None => format!(
                "hypervisor:  {backend} ({program} is not installed{used}; {})",
                backend.remedy()
            ),
        }
    }
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

pub(super) async fn info(
    context: &Context,
    machine: &dyn VirtualMachine,
    args: &FormatArgs,
) -> Result<()> {
    let folder = context.paths.machine();
    let console = machine.log(MachineLog::Console).ok();
    let size = context.config.machine.size();
    let disk = std::fs::metadata(context.paths.machine_disk()).ok();
    let place = appliance::folder(&context.paths);
    let kernel = Appliance::open(&place).map(|it| it.kernel_version().to_owned());
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
        "Machine": folder.to_string_lossy(),
        "Console": console.as_ref().map(|path| path.to_string_lossy()),
        "Appliance": place.to_string_lossy(),
        "ApplianceEmbedded": brought,
        "Size": { "Cpus": size.cpus, "Memory": size.memory, "Disk": size.disk },
        "DiskSize": disk.as_ref().map(std::fs::Metadata::len),
        "KernelVersion": kernel.as_ref().ok(),
        "ActiveContainers": agent.map(|(containers, _)| containers),
        "AgentMemory": agent.map(|(_, resident)| resident),
    });
    print(&fields, args, || {
        output::result(format!("machine:     {}", folder.display()));
        if let Some(console) = console {
            output::result(format!("console:     {}", console.display()));
        }
        output::result(format!("size:        {}", size.describe()));
        let origin = if brought { ", from this program" } else { "" };
        output::result(format!("appliance:   {}{origin}", place.display()));
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
