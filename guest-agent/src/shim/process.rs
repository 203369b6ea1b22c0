//! A process of the container and everybody who follows it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use isolazi_protocol::{Event, Frame, Reply, ServerMessage, StreamId, WindowSize};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};

use crate::container::log::LogWriter;
use crate::launch::{Launched, Stdio};
use crate::shim::io::AsyncPipe;
use crate::sys::descriptor;
use crate::sys::readiness::watch;

/// Read from the process at once at the most.
const CHUNK: usize = isolazi_protocol::OUTPUT_WINDOW / 4;
/// A follower may be this many bytes behind before the process has to wait.
const MOST_QUEUED: usize = 1 << 20;
/// Status reported when even `waitpid` fails, which would be a bug of ours.
const UNKNOWN_STATUS: i32 = 255;

/// The shim's ends of a process's standard streams.
#[derive(Debug)]
pub(super) struct OurEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes the standard streams: the process's ends, and ours. A terminal's
/// master arrives later, with [`Launched::console`].
pub(super) fn streams(
    terminal: Option<WindowSize>,
    open_stdin: bool,
) -> io::Result<(Stdio, OurEnds)> {
    if let Some(size) = terminal {
        let ends = OurEnds {
            stdin: None,
            stdout: None,
            stderr: None,
        };
        return Ok((Stdio::Terminal(size), ends));
    }
    let (stdin, ours) = match open_stdin {
        true => std::io::pipe().map(|(read, write)| (OwnedFd::from(read), Some(write.into())))?,
        false => (std::fs::File::open("/dev/null")?.into(), None),
    };
    let (stdout_read, stdout) = std::io::pipe()?;
    let (stderr_read, stderr) = std::io::pipe()?;
    let theirs = Stdio::Pipes {
        stdin,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let ours = OurEnds {
        stdin: ours,
        stdout: Some(stdout_read.into()),
        stderr: Some(stderr_read.into()),
    };
    Ok((theirs, ours))
}

/// Somebody who is sent the process's output.
#[derive(Debug)]
struct Follower {
    frames: mpsc::UnboundedSender<Frame>,
    queued: Rc<Cell<usize>>,
}

/// The receiving end of a follower's queue.
#[derive(Debug)]
pub(super) struct Following {
    frames: mpsc::UnboundedReceiver<Frame>,
    own: mpsc::WeakUnboundedSender<Frame>,
    queued: Rc<Cell<usize>>,
    process: Rc<Process>,
}

impl Following {
    /// The next frame for the follower; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        self.frames.recv().await
    }

    /// A way to tell this follower, and no other, how its input fares.
    pub(super) fn teller(&self) -> Teller {
        Teller(self.own.clone())
    }

    /// Says that `frame` has been passed on, which lets the process continue.
    pub(super) fn passed_on(&self, frame: &Frame) {
        if let Frame::Data(_, bytes) = frame {
            self.queued.set(self.queued.get() - bytes.len());
        }
        self.process.room.notify_waiters();
    }
}

/// Sends events to one follower.
#[derive(Debug)]
pub(super) struct Teller(mpsc::WeakUnboundedSender<Frame>);

impl Teller {
    pub(super) fn tell(&self, event: Event) {
        let frame = Frame::control(&ServerMessage::Event(event));
        if let (Some(sender), Ok(frame)) = (self.0.upgrade(), frame) {
            // A follower that has gone needs no news.
            let _ = sender.send(frame);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.queued.set(0);
        self.frames.close();
        self.process.room.notify_waiters();
    }
}

/// A running process: its first one, or one that was exec'd.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    stdin: RefCell<Option<Rc<AsyncPipe>>>,
    console: Option<Rc<AsyncPipe>>,
    followers: RefCell<Vec<Follower>>,
    log: RefCell<Option<LogWriter>>,
    /// Some follower's queue became shorter.
    room: Notify,
    /// The last word is said; who follows now has missed it.
    finished: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    status: Cell<Option<i32>>,
}

impl Process {
    /// Takes charge of a launched process. What it writes goes to `log` and to
    /// all followers, as soon as its outputs are pumped.
    pub(super) fn adopt(
        launched: Launched,
        ends: OurEnds,
        log: Option<LogWriter>,
    ) -> io::Result<(Rc<Self>, Pumps)> {
        let reading = |fd: Option<OwnedFd>| {
            fd.map(|fd| AsyncPipe::new(fd, Interest::READABLE))
                .transpose()
        };
        let console = match launched.console {
            Some(master) => Some(Rc::new(AsyncPipe::new(
                master,
                Interest::READABLE | Interest::WRITABLE,
            )?)),
            None => None,
        };
        let stdin = match (&console, ends.stdin) {
            (Some(console), _) => Some(Rc::clone(console)),
            (None, Some(pipe)) => Some(Rc::new(AsyncPipe::new(pipe, Interest::WRITABLE)?)),
            (None, None) => None,
        };
        let stdout = match &console {
            Some(console) => Some(Rc::clone(console)),
            None => reading(ends.stdout)?.map(Rc::new),
        };
        let stderr = reading(ends.stderr)?.map(Rc::new);
        let process = Rc::new(Self {
            pid: launched.pid,
            pidfd: watch(launched.pidfd, Interest::READABLE)?,
            stdin: RefCell::new(stdin),
            console,
            followers: RefCell::default(),
            log: RefCell::new(log),
            room: Notify::new(),
            finished: watch::channel(false).0,
            ended: watch::channel(false).0,
            status: Cell::default(),
        });
        Ok((process, Pumps { stdout, stderr }))
    }

    /// Its id, as the shim sees it.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Descriptor that stands for the process.
    pub(super) fn pidfd(&self) -> &OwnedFd {
        self.pidfd.get_ref()
    }

    /// Registers a follower. One who comes after the end is let go at once.
    pub(super) fn follow(self: &Rc<Self>) -> Following {
        let (sender, frames) = mpsc::unbounded_channel();
        let own = sender.downgrade();
        let queued = Rc::new(Cell::new(0));
        if !*self.finished.borrow() {
            self.followers.borrow_mut().push(Follower {
                frames: sender,
                queued: Rc::clone(&queued),
            });
        }
        Following {
            frames,
            own,
            queued,
            process: Rc::clone(self),
        }
    }

    /// Sends a message to every follower.
    fn announce(&self, message: &ServerMessage) {
        // Messages of the shim's own making always encode.
        if let Ok(frame) = Frame::control(message) {
            self.send(&frame);
        }
    }

    /// Says that the process ended, after all of its output, and lets the
    /// followers go.
    pub(super) fn finish(&self, code: i32) {
        self.announce(&ServerMessage::Event(Event::Exited(code)));
        self.announce(&ServerMessage::Reply(Ok(Reply::Done)));
        self.finished.send_replace(true);
        self.followers.borrow_mut().clear();
    }

    /// Input for the process. Once it has closed its end, input is discarded.
    pub(super) async fn write_stdin(&self, bytes: &[u8]) {
        let pipe = self.stdin.borrow().clone();
        if let Some(pipe) = pipe {
            let mut ended = self.ended.subscribe();
            let failed = tokio::select! {
                result = pipe.write_all(bytes) => result.is_err(),
                _ = ended.wait_for(|ended| *ended) => true,
            };
            if failed {
                self.stdin.borrow_mut().take();
            }
        }
    }

    /// Ends the process's standard input. A terminal has no end.
    pub(super) fn close_stdin(&self) {
        if self.console.is_none() {
            self.stdin.borrow_mut().take();
        }
    }

    /// Sends a signal; one to a process that has ended is lost, as it should be.
    pub(super) fn signal(&self, number: i32) {
        let _ = descriptor::signal(self.pidfd(), number);
    }

    /// Changes the terminal's size, if it has one.
    pub(super) fn resize(&self, size: WindowSize) {
        if let Some(console) = &self.console {
            let _ = descriptor::set_window_size(console.descriptor(), size.rows, size.columns);
        }
    }

    /// Waits until the process has ended and reaps it.
    pub(super) async fn wait(&self) -> i32 {
        // A pidfd is readable once its process has ended (pidfd_open(2)).
        let _ = self.pidfd.readable().await;
        let code = loop {
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => break code,
                Ok(WaitStatus::Signaled(_, signal, _)) => break signal_status(signal),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break UNKNOWN_STATUS,
            }
        };
        self.status.set(Some(code));
        self.ended.send_replace(true);
        code
    }

    /// Its status, once it has ended.
    pub(super) fn status(&self) -> Option<i32> {
        self.status.get()
    }

    /// Waits for the process's end without reaping it.
    pub(super) async fn ended(&self) {
        become_true(&self.ended).await;
    }

    /// Waits until the process's end is recorded and announced.
    pub(super) async fn finished(&self) {
        become_true(&self.finished).await;
    }

    fn send(&self, frame: &Frame) {
        let mut followers = self.followers.borrow_mut();
        followers.retain(|follower| {
            if let Frame::Data(_, bytes) = frame {
                follower.queued.set(follower.queued.get() + bytes.len());
            }
            follower.frames.send(frame.clone()).is_ok()
        });
    }

    fn is_backed_up(&self) -> bool {
        let followers = self.followers.borrow();
        followers
            .iter()
            .any(|follower| follower.queued.get() > MOST_QUEUED)
    }

    /// Waits until every follower has caught up, or the process has ended:
    /// what is left in its pipes then is little.
    async fn wait_for_room(&self) {
        while self.is_backed_up() && !*self.ended.borrow() {
            tokio::select! {
                () = self.room.notified() => {}
                () = self.ended() => {}
            }
        }
    }

    fn output(&self, stream: StreamId, bytes: Bytes) {
        let mut log = self.log.borrow_mut();
        if let Some(writer) = log.as_mut()
            && let Err(error) = writer.append(stream, &bytes)
        {
            // A full disk must not end the container; its log stops here.
            eprintln!("cannot write the container's log: {error}");
            log.take();
        }
        drop(log);
        self.send(&Frame::Data(stream, bytes));
    }
}

async fn become_true(flag: &watch::Sender<bool>) {
    // The sender outlives this borrow of it.
    let _ = flag.subscribe().wait_for(|flag| *flag).await;
}

fn signal_status(signal: Signal) -> i32 {
    128 + signal as i32
}

/// The process's outputs, before they are pumped.
#[derive(Debug)]
pub(super) struct Pumps {
    stdout: Option<Rc<AsyncPipe>>,
    stderr: Option<Rc<AsyncPipe>>,
}

impl Pumps {
    /// Pumps until the process has ended and its outputs are empty.
    pub(super) fn start(self, process: &Rc<Process>) -> Pumping {
        let pump_of = |pipe: Option<Rc<AsyncPipe>>, stream| {
            pipe.map(|pipe| spawn_local(pump(Rc::clone(process), pipe, stream)))
        };
        Pumping([
            pump_of(self.stdout, StreamId::Stdout),
            pump_of(self.stderr, StreamId::Stderr),
        ])
    }
}

/// The tasks that pump a process's outputs.
#[derive(Debug)]
pub(super) struct Pumping([Option<JoinHandle<()>>; 2]);

impl Pumping {
    /// Waits for the last byte.
    pub(super) async fn drained(&mut self) {
        for task in self.0.iter_mut().filter_map(Option::take) {
            let _ = task.await;
        }
    }
}

async fn pump(process: Rc<Process>, pipe: Rc<AsyncPipe>, stream: StreamId) {
    let mut buffer = BytesMut::zeroed(CHUNK);
    loop {
        process.wait_for_room().await;
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = process.ended() => break,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) => process.output(stream, Bytes::copy_from_slice(&buffer[..count])),
        }
        // A process that writes without end must not keep others from being
        // heard: whoever wants to stop it, for one.
        tokio::task::yield_now().await;
    }
    // Others may have inherited the pipe, so its end may never come; but what
    // the process itself wrote is in it by now.
    while let Ok(Some(count @ 1..)) = pipe.read_now(&mut buffer) {
        process.output(stream, Bytes::copy_from_slice(&buffer[..count]));
    }
}
