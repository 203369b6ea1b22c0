//! `isolazi logs`.

use std::time::SystemTime;

use anyhow::{Result, anyhow};
use isolazi_protocol::{ClientControl, LogRange, Request, StreamId};
use tokio::io::AsyncWriteExt;

use crate::cli::LogsArgs;
use crate::commands::Context;
use crate::connection::Incoming;
use crate::moment;

pub(super) async fn logs(context: &Context, args: &LogsArgs) -> Result<u8> {
    let request = Request::Logs {
        container: args.container.clone(),
        follow: args.follow,
        wanted: range(args)?,
    };
    let mut conversation = context
        .engine_of(&args.container)
        .await?
        .open(&request)
        .await?;
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let (stream, bytes) = match conversation.next().await? {
            Incoming::Data(stream, bytes) => (stream, bytes),
            Incoming::Event(_) => continue,
            Incoming::Done(_) => break,
        };
        let written = match stream {
            StreamId::Stderr => stderr.write_all(&bytes).await,
            _ => stdout.write_all(&bytes).await,
        };
        if is_gone(written)? {
            return Ok(0);
        }
        let taken = ClientControl::OutputTaken(bytes.len() as u32);
        // A conversation that is over by now needs no acknowledgement.
        let _ = conversation.control(&taken).await;
    }
    is_gone(stdout.flush().await)?;
    is_gone(stderr.flush().await)?;
    Ok(0)
}

fn range(args: &LogsArgs) -> Result<LogRange> {
    let now = SystemTime::now();
    let moment = |text: &String| moment::parse(text, now);
    Ok(LogRange {
        tail: match args.tail.as_str() {
            "all" => None,
            lines => Some(lines.parse().map_err(|_| {
                anyhow!("'{lines}' is no number of lines: use --tail N or --tail all")
            })?),
        },
        since: args.since.as_ref().map(moment).transpose()?,
        until: args.until.as_ref().map(moment).transpose()?,
        timestamps: args.timestamps,
    })
}

/// Whether the reader has gone away, which is a quiet end.
fn is_gone(written: std::io::Result<()>) -> Result<bool> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(true),
        other => Ok(other.map(|()| false)?),
    }
}
