//! `isolazi vm`.

use anyhow::{Result, bail};

use crate::cli::VmCommand;
use crate::commands::Context;

pub(super) async fn vm(_context: &Context, _command: VmCommand) -> Result<()> {
    bail!("the virtual machine is not built yet")
}
