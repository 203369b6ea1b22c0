//! The engine as the commands use it: whichever machine it runs on, one
//! request at a time, and a place for layers to go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::{
    Compression, Digest, Isolation, LayerBounds, MAX_DATA_BYTES, Reply, Request, StreamId,
    TransportError,
};

use crate::connection::{Conversation, ConversationError, Incoming, Listener, Speaker};
use crate::image::{LayerSink, LayerWriter, Platform, SinkError};
use crate::machine::{GuestArch, Machine, MachineError};

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be reached.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It was reached and refused, or broke off.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
}

impl EngineError {
    /// The agent's own error, where there is one.
    pub fn refusal(&self) -> Option<&isolazi_protocol::WireError> {
        match self {
            Self::Conversation(ConversationError::Refused(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether what was asked about has been removed meanwhile.
    pub fn is_gone(&self) -> bool {
        let refusal = self.refusal();
        refusal.is_some_and(|refusal| refusal.code == isolazi_protocol::ErrorCode::NotFound)
    }
}

/// How often an agent is greeted that hangs up without a word: its machine has
/// just died, or it is just being restarted. Before its greeting an agent does
/// nothing, so nothing is done twice.
const GREETINGS: usize = 20;
const GREETING_PAUSE: Duration = Duration::from_millis(50);

/// An agent on some machine.
#[derive(Clone)]
pub struct Engine {
    machine: Arc<dyn Machine>,
    bounds: LayerBounds,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// The engine on `machine`.
    pub fn new(machine: Arc<dyn Machine>) -> Self {
        Self {
            machine,
            bounds: LayerBounds::default(),
        }
    }

    /// The same, with other bounds for layers that are put into it.
    pub fn with_bounds(self, bounds: LayerBounds) -> Self {
        Self { bounds, ..self }
    }

    /// What its processor executes without an interpreter.
    pub fn platform(&self) -> Platform {
        match self.isolation() {
            Isolation::Process => Platform::host(),
            Isolation::Vm => GuestArch::current().platform(),
        }
    }

    /// How its containers are kept apart from the host.
    pub fn isolation(&self) -> Isolation {
        self.machine.isolation()
    }

    /// The machine itself.
    pub fn machine(&self) -> &dyn Machine {
        self.machine.as_ref()
    }

    /// Makes a request and returns the conversation about it.
    pub async fn open(&self, request: &Request) -> Result<Conversation, EngineError> {
        let mut greetings = 1;
        loop {
            let dialed = self.machine.dial().await?;
            match Conversation::open(dialed, request).await {
                Err(ConversationError::Transport(
                    TransportError::Closed | TransportError::Io(_),
                )) if greetings < GREETINGS => {
                    greetings += 1;
                    tokio::time::sleep(GREETING_PAUSE).await;
                }
                opened => return Ok(opened?),
            }
        }
    }

    /// Makes a request whose reply is all that matters.
    pub async fn ask(&self, request: &Request) -> Result<Reply, EngineError> {
        Ok(self.open(request).await?.reply().await?)
    }

    /// Makes a request that bytes follow.
    pub async fn upload(&self, request: &Request) -> Result<Box<dyn LayerWriter>, EngineError> {
        let (listener, speaker) = self.open(request).await?.split();
        Ok(Box::new(Upload {
            listener,
            speaker,
            done: false,
        }))
    }
}

impl LayerSink for Engine {
    fn missing<'a>(
        &'a self,
        diff_ids: &'a [Digest],
    ) -> BoxFuture<'a, Result<Vec<Digest>, SinkError>> {
        async move {
            match self.ask(&Request::MissingLayers(diff_ids.to_vec())).await? {
                Reply::Layers(missing) => Ok(missing),
                _ => Err(ConversationError::Unexpected.into()),
            }
        }
        .boxed()
    }

    fn begin<'a>(
        &'a self,
        diff_id: &'a Digest,
        compression: Compression,
    ) -> BoxFuture<'a, Result<Box<dyn LayerWriter>, SinkError>> {
        async move {
            let request = Request::PutLayer {
                diff_id: diff_id.clone(),
                compression,
                bounds: self.bounds,
            };
            Ok(self.upload(&request).await?)
        }
        .boxed()
    }
}

/// A layer on its way to the agent.
struct Upload {
    listener: Listener,
    speaker: Speaker,
    /// The agent has the layer already and needs no more of it.
    done: bool,
}

impl Upload {
    /// Sends one piece, unless the agent has something to say first.
    async fn send(&mut self, piece: Bytes) -> Result<(), ConversationError> {
        if self.done {
            return Ok(());
        }
        let sent = tokio::select! {
            biased;
            sent = self.speaker.data(StreamId::Bulk, piece) => sent,
            said = self.listener.next() => return self.heard(&said?),
        };
        match sent {
            Ok(()) => Ok(()),
            // The agent has hung up; its reason is there to be read.
            Err(error) => {
                let said = self.listener.next().await.map_err(|_| error)?;
                self.heard(&said)
            }
        }
    }

    fn heard(&mut self, said: &Incoming) -> Result<(), ConversationError> {
        match said {
            Incoming::Done(_) => {
                self.done = true;
                Ok(())
            }
            _ => Err(ConversationError::Unexpected),
        }
    }
}

impl LayerWriter for Upload {
    fn write(&mut self, mut chunk: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            while !chunk.is_empty() {
                let piece = chunk.split_to(chunk.len().min(MAX_DATA_BYTES));
                self.send(piece).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            self.send(Bytes::new()).await?;
            if !self.done {
                let said = self.listener.next().await?;
                self.heard(&said)?;
            }
            Ok(())
        }
        .boxed()
    }
}
