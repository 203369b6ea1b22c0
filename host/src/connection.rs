//! Conversations with an agent, whatever carries them.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use isolazi_protocol::{
    AgentInfo, ClientControl, Event, Frame, GENERATION, Greeting, Hello, Reply, Request,
    ServerMessage, StreamId, Token, Transport, TransportError, WireError, decode,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

/// A stream that can carry a conversation.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

impl std::fmt::Debug for dyn ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByteStream")
    }
}

/// A connection to an agent, before anything is said.
#[derive(Debug)]
pub struct Dialed {
    /// Carries the conversation.
    pub stream: Box<dyn ByteStream>,
    /// What this agent wants to be shown.
    pub token: Option<Token>,
}

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The connection broke, or the agent does not keep to the protocol.
    #[error("lost the connection to the agent")]
    Transport(#[from] TransportError),
    /// The agent refused, and says why.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The agent said something that does not answer the request.
    #[error("the agent gave an answer that does not fit the question")]
    Unexpected,
}

/// What the agent says in the course of a conversation.
#[derive(Debug)]
pub enum Incoming {
    /// The request goes on.
    Event(Event),
    /// Bytes of a stream; none when it ends.
    Data(StreamId, Bytes),
    /// The request is done.
    Done(Reply),
}

/// One request, and everything until its reply.
#[derive(Debug)]
pub struct Conversation {
    listener: Listener,
    speaker: Speaker,
    info: AgentInfo,
    peeked: Option<Incoming>,
}

/// The half of a conversation that listens.
#[derive(Debug)]
pub struct Listener(Transport<ReadHalf<Box<dyn ByteStream>>>);

/// The half of a conversation that speaks.
#[derive(Debug)]
pub struct Speaker(Transport<WriteHalf<Box<dyn ByteStream>>>);

impl Conversation {
    /// Greets the agent and makes a request, in one go.
    pub async fn open(dialed: Dialed, request: &Request) -> Result<Self, ConversationError> {
        let mut opening = hello(dialed.token)?;
        Frame::control(request)
            .and_then(|request| request.put(&mut opening))
            .map_err(TransportError::from)?;
        let (reader, mut writer) = Transport::new(dialed.stream).split();
        let written = writer.send_raw(&opening).await;
        let mut reader = reader;
        // An agent that refuses may hang up before it has read everything; its
        // reason then is there to be read all the same.
        let greeting = match (reader.receive_message::<Greeting>().await, written) {
            (Ok(greeting), _) => greeting,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error.into()),
        };
        Ok(Self {
            info: greeting?,
            listener: Listener(reader),
            speaker: Speaker(writer),
            peeked: None,
        })
    }

    /// What runs on the other side.
    pub fn info(&self) -> &AgentInfo {
        &self.info
    }

    /// The next thing the agent says.
    pub async fn next(&mut self) -> Result<Incoming, ConversationError> {
        match self.peeked.take() {
            Some(incoming) => Ok(incoming),
            None => self.listener.next().await,
        }
    }

    /// Waits for the next thing the agent says, and keeps it for
    /// [`Conversation::next`] unless it is a refusal.
    pub async fn await_answer(&mut self) -> Result<(), ConversationError> {
        if self.peeked.is_none() {
            self.peeked = Some(self.listener.next().await?);
        }
        Ok(())
    }

    /// Tells the agent something in the course of the request.
    pub async fn control(&mut self, control: &ClientControl) -> Result<(), ConversationError> {
        self.speaker.control(control).await
    }

    /// The reply, past all that comes before it.
    pub async fn reply(mut self) -> Result<Reply, ConversationError> {
        loop {
            if let Incoming::Done(reply) = self.next().await? {
                return Ok(reply);
            }
        }
    }

    /// Both halves, to be used at once, where nothing is kept.
    pub fn split(self) -> (Listener, Speaker) {
        (self.listener, self.speaker)
    }
}

impl Listener {
    /// The next thing the agent says. Cancel-safe.
    pub async fn next(&mut self) -> Result<Incoming, ConversationError> {
        let frame = self.0.receive().await?.ok_or(TransportError::Closed)?;
        let message = match frame {
            Frame::Data(stream, bytes) => return Ok(Incoming::Data(stream, bytes)),
            Frame::Control(payload) => decode(&payload).map_err(TransportError::from)?,
        };
        match message {
            ServerMessage::Event(event) => Ok(Incoming::Event(event)),
            ServerMessage::Reply(reply) => Ok(Incoming::Done(reply?)),
        }
    }
}

impl Speaker {
    /// Sends bytes of a stream, which end with an empty piece. At most
    /// [`isolazi_protocol::MAX_DATA_BYTES`] go at once.
    pub async fn data(&mut self, stream: StreamId, bytes: Bytes) -> Result<(), ConversationError> {
        Ok(self.0.send(&Frame::Data(stream, bytes)).await?)
    }

    /// Tells an attach session something.
    pub async fn control(&mut self, control: &ClientControl) -> Result<(), ConversationError> {
        Ok(self.0.send_message(control).await?)
    }
}

/// The greeting that opens a conversation, encoded.
pub(crate) fn hello(token: Option<Token>) -> Result<BytesMut, TransportError> {
    let hello = Hello {
        generation: GENERATION,
        token,
        clock: unix_nanos(),
    };
    let mut encoded = BytesMut::new();
    Frame::control(&hello)?.put(&mut encoded)?;
    Ok(encoded)
}

fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
