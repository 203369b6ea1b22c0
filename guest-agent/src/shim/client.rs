//! One connection to the shim, as an attach session or as a request.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use isolazi_protocol::{
    ClientControl, Event, Frame, OUTPUT_WINDOW, STDIN_WINDOW, StreamId, Transport, decode,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_local;

use crate::shim::process::{Following, Process, Teller};

/// Serves an attach session until the process has ended and its last output is
/// passed on, or the client is gone.
pub(super) async fn attach(
    stream: UnixStream,
    received: Bytes,
    process: Rc<Process>,
    following: Following,
) {
    let (reader, writer) = stream.into_split();
    let reader = Transport::with_received(reader, received);
    let window = Rc::new(Semaphore::new(OUTPUT_WINDOW));
    let input = take_input(reader, process, following.teller(), Rc::clone(&window));
    let output = send_output(Transport::new(writer), following, window);
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}

/// Sends output as far as the client passes it on.
async fn send_output(
    mut writer: Transport<OwnedWriteHalf>,
    mut following: Following,
    window: Rc<Semaphore>,
) {
    while let Some(frame) = following.next().await {
        if let Frame::Data(_, bytes) = &frame
            && let Ok(room) = window.acquire_many(bytes.len() as u32).await
        {
            room.forget();
        }
        if writer.send(&frame).await.is_err() {
            return;
        }
        following.passed_on(&frame);
    }
}

/// Follows what the client says. Input goes through a queue of its own, so
/// that a signal overtakes input that the process does not take.
///
/// Ends when the client is gone or broke the rules; what it sent in time is
/// delivered.
async fn take_input(
    mut reader: Transport<OwnedReadHalf>,
    process: Rc<Process>,
    teller: Teller,
    window: Rc<Semaphore>,
) {
    let (queue, pending) = mpsc::unbounded_channel();
    let feeding = spawn_local(feed(Rc::clone(&process), teller, pending));
    let mut outstanding = Window::default();
    while let Ok(Some(frame)) = reader.receive().await {
        match frame {
            Frame::Data(StreamId::Stdin, bytes) => {
                if !outstanding.admits(&queue, bytes) {
                    break;
                }
            }
            Frame::Data(..) => break,
            Frame::Control(payload) => match decode(&payload) {
                Ok(ClientControl::Resize(size)) => process.resize(size),
                Ok(ClientControl::Signal(number)) => process.signal(number),
                Ok(ClientControl::OutputTaken(count)) => {
                    let most = OUTPUT_WINDOW.saturating_sub(window.available_permits());
                    window.add_permits(most.min(count as usize));
                }
                Err(_) => break,
            },
        }
    }
    drop(queue);
    let _ = feeding.await;
}

/// Guards the shim's memory against a client that ignores [`STDIN_WINDOW`].
#[derive(Default)]
struct Window {
    outstanding: Rc<Cell<usize>>,
}

struct Input {
    bytes: Bytes,
    outstanding: Rc<Cell<usize>>,
}

impl Window {
    fn admits(&mut self, queue: &mpsc::UnboundedSender<Input>, bytes: Bytes) -> bool {
        let outstanding = self.outstanding.get() + bytes.len();
        self.outstanding.set(outstanding);
        let input = Input {
            bytes,
            outstanding: Rc::clone(&self.outstanding),
        };
        outstanding <= STDIN_WINDOW && queue.send(input).is_ok()
    }
}

async fn feed(process: Rc<Process>, teller: Teller, mut pending: mpsc::UnboundedReceiver<Input>) {
    while let Some(input) = pending.recv().await {
        if input.bytes.is_empty() {
            process.close_stdin();
            continue;
        }
        process.write_stdin(&input.bytes).await;
        input
            .outstanding
            .set(input.outstanding.get() - input.bytes.len());
        // At most STDIN_WINDOW, so it fits.
        let taken = input.bytes.len() as u32;
        teller.tell(Event::StdinTaken(taken));
    }
}
