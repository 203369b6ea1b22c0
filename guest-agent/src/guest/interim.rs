//! Stands in for the engine's conversations until they exist: answers the
//! greeting, pings and the request to shut down.

use isolazi_protocol::{
    AgentInfo, ErrorCode, GENERATION, Greeting, Hello, Reply, Request, ServerMessage, Token,
    Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::shutdown;

pub(super) async fn converse<S>(stream: S, token: Token) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Transport::new(stream);
    let hello: Hello = client.receive_message().await?;
    if hello.token.as_ref() != Some(&token) {
        let refused: Greeting = Err(WireError::new(ErrorCode::Unauthenticated, "wrong token"));
        return client.send_message(&refused).await;
    }
    let greeting: Greeting = Ok(AgentInfo {
        generation: GENERATION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: String::new(),
        architecture: String::new(),
    });
    client.send_message(&greeting).await?;
    let reply = match client.receive_message().await? {
        Request::Ping => Ok(Reply::Done),
        Request::Shutdown => {
            shutdown::request_soon();
            Ok(Reply::Done)
        }
        _ => Err(WireError::new(ErrorCode::Unsupported, "not yet")),
    };
    client.send_message(&ServerMessage::Reply(reply)).await
}
