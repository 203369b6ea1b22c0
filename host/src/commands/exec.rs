//! `isolazi exec`.

use anyhow::Result;
use isolazi_protocol::Request;

use crate::cli::ExecArgs;
use crate::commands::Context;
use crate::commands::run::{await_start, exit_status, require_terminal};
use crate::options;
use crate::session::{self, Attach};
use crate::spec;
use crate::terminal;

pub(super) async fn exec(context: &Context, args: &ExecArgs) -> Result<u8> {
    require_terminal(&args.process)?;
    let files = options::environment_files(&args.process.env_file)?;
    let size = args
        .process
        .tty
        .then(|| terminal::size().unwrap_or_default());
    let request = Request::Exec {
        container: args.container.clone(),
        spec: Box::new(spec::exec(&args.process, files, &args.command, size)),
        attach: true,
    };
    let mut conversation = context.engine()?.open(&request).await?;
    await_start(&mut conversation).await?;
    let how = Attach {
        stdin: args.process.interactive,
        tty: args.process.tty,
    };
    Ok(exit_status(session::attach(conversation, how).await?))
}
