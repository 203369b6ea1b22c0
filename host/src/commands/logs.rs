//! `isolazi logs`.

use anyhow::Result;
use isolazi_protocol::{Request, StreamId};
use tokio::io::AsyncWriteExt;

use crate::cli::LogsArgs;
use crate::commands::Context;
use crate::connection::Incoming;

pub(super) async fn logs(context: &Context, args: &LogsArgs) -> Result<u8> {
    let request = Request::Logs {
        container: args.container.clone(),
        follow: args.follow,
    };
    let mut conversation = context.engine()?.open(&request).await?;
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let written = match conversation.next().await? {
            Incoming::Data(StreamId::Stderr, bytes) => stderr.write_all(&bytes).await,
            Incoming::Data(_, bytes) => stdout.write_all(&bytes).await,
            Incoming::Event(_) => Ok(()),
            Incoming::Done(_) => break,
        };
        if is_gone(written)? {
            return Ok(0);
        }
    }
    is_gone(stdout.flush().await)?;
    is_gone(stderr.flush().await)?;
    Ok(0)
}

/// Whether the reader has gone away, which is a quiet end.
fn is_gone(written: std::io::Result<()>) -> Result<bool> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(true),
        other => Ok(other.map(|()| false)?),
    }
}
