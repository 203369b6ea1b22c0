//! `isolazi version`.

use anyhow::Result;
use isolazi_protocol::{AgentInfo, GENERATION, Isolation, Request};
use serde_json::{Value, json};

use crate::cli::FormatArgs;
use crate::commands::Context;
use crate::output;

pub(super) async fn version(context: &Context, args: &FormatArgs) -> Result<()> {
    match args.template()? {
        Some(template) => output::result(template.line(&fields(context).await)?),
        None => output::result(format!(
            "isolazi {} (protocol {GENERATION}, {}/{})",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
        )),
    }
    Ok(())
}

/// Docker's fields, as far as they have a meaning here.
async fn fields(context: &Context) -> Value {
    json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": GENERATION.to_string(),
            "Os": std::env::consts::OS,
            "Arch": architecture(std::env::consts::ARCH),
        },
        "Server": agent(context).await.map(|info| json!({
            "Version": info.version,
            "ApiVersion": info.generation.to_string(),
            "Os": "linux",
            "Arch": info.architecture,
            "KernelVersion": info.kernel,
        })),
    })
}

/// What the agent says of itself, if it can be asked; no machine is started
/// for that.
async fn agent(context: &Context) -> Option<AgentInfo> {
    if context.isolation() == Isolation::Vm {
        let machine = context.virtual_machine().ok()?;
        machine.is_running().await.ok().filter(|runs| *runs)?;
    }
    let conversation = context.engine().ok()?.open(&Request::Ping).await.ok()?;
    Some(conversation.info().clone())
}

/// As images name it.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
