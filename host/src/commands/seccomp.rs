//! `isolazi seccomp`.

use anyhow::{Result, bail};
use isolazi_protocol::{Reply, Request, SeccompProfile};

use crate::cli::SeccompCommand;
use crate::commands::Context;
use crate::{options, output};

pub(super) async fn seccomp(context: &Context, command: &SeccompCommand) -> Result<()> {
    let SeccompCommand::Show { profile } = command;
    let profile = options::seccomp_profile(profile)?;
    if profile == SeccompProfile::Disabled {
        bail!("a disabled profile has no rules; use default, minimal, strict or a file");
    }
    let engine = context.engine()?;
    let Reply::Text(text) = engine.ask(&Request::ShowSeccomp(profile)).await? else {
        bail!("the agent did not say what the profile comes to");
    };
    let document: serde_json::Value = serde_json::from_str(&text)?;
    output::result(&serde_json::to_string_pretty(&document)?);
    Ok(())
}
