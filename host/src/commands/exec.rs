//! `isolazi exec`.

use anyhow::Result;
use isolazi_protocol::Request;

use crate::cli::ExecArgs;
use crate::commands::Context;
use crate::commands::run::{await_start, detach_keys, exit_status, require_terminal};
use crate::options;
use crate::session::{self, Attach};
use crate::spec;
use crate::terminal;

pub(super) async fn exec(context: &Context, args: &ExecArgs) -> Result<u8> {
    let mut process = args.process.clone();
    if args.detach {
        process.interactive = false;
    } else {
        require_terminal(&process)?;
    }
    let files = options::environment_files(&process.env_file)?;
    let size = process.tty.then(|| terminal::size().unwrap_or_default());
    let request = Request::Exec {
        container: args.container.clone(),
        spec: Box::new(spec::exec(
            &process,
            args.privileged,
            files,
            &args.command,
            size,
        )),
        attach: !args.detach,
    };
    let mut conversation = context
        .engine_of(&args.container)
        .await?
        .open(&request)
        .await?;
    await_start(&mut conversation).await?;
    if args.detach {
        conversation.reply().await?;
        return Ok(0);
    }
    let how = Attach {
        stdin: process.interactive,
        tty: process.tty,
        detach: detach_keys(&args.terminal),
    };
    Ok(exit_status(session::attach(conversation, &how).await?))
}
