//! What happened to containers and volumes, and what happens from now on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use isolazi_protocol::{
    ClientControl, Event, Happening, Journal, Reply, ServerMessage, Transport, TransportError,
    WireError,
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};

use crate::server::{Engine, io_error};
use crate::sys::readiness::watch;

/// Told at once at the most; each is bounded, and so is a frame.
const PIECE: usize = 128;
/// How often to look where nobody says that there is something to see.
const PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) async fn events<S>(
        &self,
        client: &mut Transport<S>,
        since: Option<u64>,
        until: Option<u64>,
        follow: bool,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |error| Ok(Err(io_error("the journal of events", error)));
        // Before the journal is read, so that nothing falls in between.
        let bell = Bell::of(&self.root);
        let (mut past, mut follower) = match Journal::new(&self.root).read() {
            Ok(read) => read,
            Err(error) => return failed(error),
        };
        let in_time = |it: &Happening| until.is_none_or(|until| it.time < until);
        past.retain(|it| since.is_none_or(|since| it.time >= since) && in_time(it));
        for piece in past.chunks(PIECE) {
            tell(client, piece.to_vec()).await?;
        }
        tell(client, Vec::new()).await?;
        if !follow {
            return Ok(Ok(Reply::Done));
        }
        loop {
            tokio::select! {
                // Nothing is expected of the client but that it goes.
                said = client.receive_message::<ClientControl>() => {
                    said?;
                    return Err(TransportError::OutOfTurn);
                }
                () = bell.ring() => {}
            }
            let mut fresh = match follower.more() {
                Ok(fresh) => fresh,
                Err(error) => return failed(error),
            };
            fresh.retain(in_time);
            for piece in fresh.chunks(PIECE) {
                tell(client, piece.to_vec()).await?;
            }
        }
    }
}

async fn tell<S>(client: &mut Transport<S>, piece: Vec<Happening>) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let happened = ServerMessage::Event(Event::Happened(piece));
    client.send_message(&happened).await
}

/// Says when something in a folder has changed (inotify(7)).
struct Bell(Option<(AsyncFd<OwnedFd>, Inotify)>);

impl Bell {
    /// One that, where the kernel has none to give, rings every now and then.
    fn of(folder: &Path) -> Self {
        let hung = || -> io::Result<_> {
            let bell = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_FROM;
            bell.add_watch(folder, changes)?;
            let watched = watch(bell.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
            Ok((watched, bell))
        };
        Self(hung().ok())
    }

    async fn ring(&self) {
        let Some((watched, bell)) = &self.0 else {
            return tokio::time::sleep(PAUSE).await;
        };
        match watched.readable().await {
            Ok(mut ready) => {
                // What has changed shows in the journal.
                while bell.read_events().is_ok() {}
                ready.clear_ready();
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
