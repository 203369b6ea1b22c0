//! What is read of a container, on its way to a file or a pipe.

use std::io::IsTerminal;

use anyhow::{Result, bail};
use bytes::Bytes;
use isolazi_protocol::{ClientControl, Content, Request, StreamId};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::connection::{Conversation, ConversationError, Incoming};
use crate::engine::Engine;

/// Writes to standard output, which must not be a terminal.
pub(super) async fn to_stdout(engine: &Engine, container: String, content: Content) -> Result<u8> {
    if std::io::stdout().is_terminal() {
        bail!("a tar is nothing for a terminal; redirect standard output or name a file");
    }
    let request = Request::Read { container, content };
    let mut conversation = engine.open(&request).await?;
    let mut stdout = tokio::io::stdout();
    match to_writer(&mut conversation, &mut stdout).await {
        // The reader has gone away, which is a quiet end.
        Err(error) if is_broken_pipe(&error) => Ok(0),
        other => other.map(|()| 0),
    }
}

/// Writes all that is read.
pub(super) async fn to_writer<W>(conversation: &mut Conversation, out: &mut W) -> Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some(bytes) = next(conversation).await? {
        out.write_all(&bytes).await?;
        taken(conversation, &bytes).await;
    }
    Ok(out.flush().await?)
}

/// Hands all that is read to a thread, and an empty piece at the end. Stops
/// when the thread takes no more.
pub(super) async fn to_channel(
    conversation: &mut Conversation,
    sender: &mpsc::Sender<Bytes>,
) -> Result<()> {
    while let Some(bytes) = next(conversation).await? {
        if sender.send(bytes.clone()).await.is_err() {
            return Ok(());
        }
        taken(conversation, &bytes).await;
    }
    let _ = sender.send(Bytes::new()).await;
    Ok(())
}

/// The next bytes; `None` once the agent said that these were all.
pub(super) async fn next(conversation: &mut Conversation) -> Result<Option<Bytes>> {
    loop {
        match conversation.next().await? {
            Incoming::Data(StreamId::Bulk, bytes) if bytes.is_empty() => {}
            Incoming::Data(StreamId::Bulk, bytes) => return Ok(Some(bytes)),
            Incoming::Event(_) => {}
            Incoming::Done(_) => return Ok(None),
            Incoming::Data(..) => return Err(ConversationError::Unexpected.into()),
        }
    }
}

/// Lets the agent send as much again. One that is done needs no word of it.
pub(super) async fn taken(conversation: &mut Conversation, bytes: &Bytes) {
    let taken = ClientControl::OutputTaken(bytes.len() as u32);
    let _ = conversation.control(&taken).await;
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
