//! A conversation with the agent by which ports of a container are connected to, one
//! after another.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use isolazi_protocol::{
    ExposedPort, Frame, Greeting, Request, ServerMessage, StreamId, Transport, TransportError,
};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use crate::connection::{ByteStream, ConversationError, Dialed, hello};

/// See the module's description.
#[derive(Debug)]
pub struct Line {
    listener: Listener,
    speaker: Speaker,
    /// Kept from one connection to the next.
    buffer: BytesMut,
}

/// Tells the agent what goes to the port.
pub(super) type Speaker = Transport<WriteHalf<Box<dyn ByteStream>>>;

/// Hears what comes from the port.
#[derive(Debug)]
pub(super) struct Listener {
    agent: Transport<ReadHalf<Box<dyn ByteStream>>>,
    is_greeted: bool,
}

impl Line {
    /// Asks for a connection in a new conversation. Does not wait for an answer: what goes
    /// to the port may follow at once.
    pub async fn open(
        dialed: Dialed,
        container: &str,
        target: ExposedPort,
    ) -> Result<Self, ConversationError> {
        let (reader, speaker) = Transport::new(dialed.stream).split();
        let mut line = Self {
            listener: Listener {
                agent: reader,
                is_greeted: false,
            },
            speaker,
            buffer: hello(dialed.token)?,
        };
        line.ask(container, target).await?;
        Ok(line)
    }

    /// Asks for the next connection, if the agent is still there.
    pub async fn again(mut self, container: &str, target: ExposedPort) -> Option<Self> {
        // It has nothing to say unless it says goodbye.
        if self.listener.agent.receive().now_or_never().is_some() {
            return None;
        }
        let asked = self.ask(container, target).await;
        asked.ok().map(|()| self)
    }

    async fn ask(&mut self, container: &str, target: ExposedPort) -> Result<(), TransportError> {
        let container = container.to_owned();
        Frame::control(&Request::Dial { container, target })?.put(&mut self.buffer)?;
        self.speaker.send_raw(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }

    /// Connects `client` to the port that was asked for. Each direction ends by itself; one
    /// that fails takes the other along, and the line.
    pub async fn connect(&mut self, client: &mut TcpStream) -> Result<(), ConversationError> {
        let _ = client.set_nodelay(true);
        let (mut from_client, mut to_client) = client.split();
        let inwards = async {
            let sent = self
                .speaker
                .send_stream(StreamId::Bulk, &mut self.buffer, &mut from_client);
            Ok(sent.await?)
        };
        let outwards = async {
            self.listener.connected().await?;
            self.listener
                .agent
                .receive_stream(StreamId::Bulk, &mut to_client)
                .await?;
            // A client that has gone for good is no reason to give up the line.
            let _ = to_client.shutdown().await;
            Ok(())
        };
        tokio::try_join!(inwards, outwards).map(drop)
    }

    /// Both directions of a port that takes datagrams.
    pub(super) fn split(self) -> (Listener, Speaker) {
        (self.listener, self.speaker)
    }
}

impl Listener {
    /// Waits until the agent has connected to the port.
    pub(super) async fn connected(&mut self) -> Result<(), ConversationError> {
        if !self.is_greeted {
            self.agent.receive_message::<Greeting>().await??;
            self.is_greeted = true;
        }
        match self.agent.receive_message().await? {
            ServerMessage::Reply(reply) => Ok(reply.map(drop)?),
            ServerMessage::Event(_) => Err(ConversationError::Unexpected),
        }
    }

    /// The next datagram.
    pub(super) async fn datagram(&mut self) -> Result<Bytes, ConversationError> {
        match self.agent.receive().await?.ok_or(TransportError::Closed)? {
            Frame::Data(StreamId::Bulk, datagram) => Ok(datagram),
            _ => Err(ConversationError::Unexpected),
        }
    }
}
