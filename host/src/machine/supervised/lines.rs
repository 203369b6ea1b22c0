//! The way to a container's ports: conversations with the agent, each of which serves one
//! connection after another.

use std::cell::RefCell;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use isolazi_protocol::{ContainerId, ExposedPort};

use super::dial_guest;
use super::wire::Ready;
use crate::engine::EngineError;
use crate::ports::{Line, Way};

/// So many lines that nobody needs are kept for whoever comes next.
const KEPT: usize = 4;

/// See the module's description.
pub(super) struct Lines {
    ready: Ready,
    container: String,
    free: RefCell<Vec<Line>>,
}

impl Lines {
    pub(super) fn new(ready: Ready, container: &ContainerId) -> Self {
        Self {
            ready,
            container: container.to_string(),
            free: RefCell::default(),
        }
    }

    fn take(&self) -> Option<Line> {
        self.free.borrow_mut().pop()
    }
}

impl Way for Lines {
    fn dial(&self, target: ExposedPort) -> LocalBoxFuture<'_, Result<Line, EngineError>> {
        async move {
            while let Some(free) = self.take() {
                // An agent that has been replaced meanwhile has hung up.
                if let Some(line) = free.again(&self.container, target).await {
                    return Ok(line);
                }
            }
            let dialed = dial_guest(&self.ready).await?;
            Ok(Line::open(dialed, &self.container, target).await?)
        }
        .boxed_local()
    }

    fn keep(&self, line: Line) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::BytesMut;
    use isolazi_protocol::{
        AgentInfo, ErrorCode, Frame, GENERATION, Greeting, Hello, PortProtocol, Reply, Request,
        ServerMessage, StreamId, Transport, TransportError, WireError,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

    use super::*;
    use crate::machine::supervised::Door;

    const TARGET: ExposedPort = ExposedPort {
        port: 80,
        protocol: PortProtocol::Tcp,
    };
    /// Nobody listens there.
    const SILENT: ExposedPort = ExposedPort { port: 81, ..TARGET };

    /// An agent whose containers say "hello", and then what they hear, and that replaces
    /// itself after so many connections of a conversation.
    struct Agent {
        conversations: Arc<AtomicU32>,
        lines: Lines,
        _folder: tempfile::TempDir,
    }

    impl Agent {
        fn start(patience: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("door");
            let conversations = Arc::<AtomicU32>::default();
            tokio::spawn(listen(
                UnixListener::bind(&path).unwrap(),
                Arc::clone(&conversations),
                patience,
            ));
            Self {
                conversations,
                lines: Lines::new(ready(&path), &ContainerId::from_random(&[7; 32])),
                _folder: folder,
            }
        }

        fn conversations(&self) -> u32 {
            self.conversations.load(Ordering::Relaxed)
        }

        /// What a client hears that connects, says this, and then has said all.
        async fn talk(&self, target: ExposedPort, words: &str) -> String {
            let (mut client, mut server) = pair().await;
            let served = async {
                let mut line = self.lines.dial(target).await.unwrap();
                if line.connect(&mut server).await.is_ok() {
                    self.lines.keep(line);
                }
                drop(server);
            };
            let talk = async {
                client.write_all(words.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = String::new();
                client.read_to_string(&mut heard).await.unwrap();
                heard
            };
            tokio::join!(served, talk).1
        }
    }

    fn ready(path: &Path) -> Ready {
        Ready {
            door: Door::Socket {
                path: path.to_owned(),
            },
            token: [0; 32],
            boot_ms: 0,
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    async fn listen(listener: UnixListener, conversations: Arc<AtomicU32>, patience: usize) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            conversations.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move { converse(stream, patience).await.unwrap() });
        }
    }

    async fn converse(stream: UnixStream, patience: usize) -> Result<(), TransportError> {
        let mut client = Transport::new(stream);
        let _: Hello = client.receive_message().await?;
        let greeting: Greeting = Ok(AgentInfo {
            generation: GENERATION,
            version: String::new(),
            kernel: String::new(),
            architecture: String::new(),
        });
        client.send_message(&greeting).await?;
        for _ in 0..patience {
            let Some(Frame::Control(request)) = client.receive().await? else {
                return Ok(());
            };
            let request: Request = isolazi_protocol::decode(&request)?;
            let Request::Dial { target, .. } = request else {
                panic!("{request:?}");
            };
            if target == SILENT {
                let refusal = Err(WireError::new(ErrorCode::Conflict, "cannot reach it"));
                return client.send_message(&ServerMessage::Reply(refusal)).await;
            }
            let mut heard = b"hello ".to_vec();
            client.receive_stream(StreamId::Bulk, &mut heard).await?;
            let mut words = BytesMut::new();
            Frame::control(&ServerMessage::Reply(Ok(Reply::Done)))?.put(&mut words)?;
            client
                .send_stream(StreamId::Bulk, &mut words, &mut &heard[..])
                .await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn connections_follow_each_other_in_one_conversation() {
        let agent = Agent::start(usize::MAX);
        for words in ["", "one", "two"] {
            assert_eq!(agent.talk(TARGET, words).await, format!("hello {words}"));
        }
        assert_eq!(agent.conversations(), 1);
    }

    #[tokio::test]
    async fn connections_at_once_have_conversations_of_their_own() {
        let agent = Agent::start(usize::MAX);
        for _ in 0..2 {
            let (one, two) = tokio::join!(agent.talk(TARGET, "one"), agent.talk(TARGET, "two"));
            assert_eq!((one.as_str(), two.as_str()), ("hello one", "hello two"));
        }
        assert_eq!(agent.conversations(), 2);
    }

    #[tokio::test]
    async fn an_agent_that_has_hung_up_is_called_again() {
        let agent = Agent::start(1);
        for round in 1..4 {
            assert_eq!(agent.talk(TARGET, "x").await, "hello x");
            assert_eq!(agent.conversations(), round);
            // Until it has noticed that it is not to serve another one.
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_port_that_does_not_answer_hangs_up_and_leaves_no_line() {
        let agent = Agent::start(usize::MAX);
        assert_eq!(agent.talk(SILENT, "").await, "");
        assert!(agent.lines.take().is_none());
        assert_eq!(agent.talk(TARGET, "x").await, "hello x");
        assert_eq!(agent.conversations(), 2);
    }
}
