//! From a launched process to its end, with the caller who asked for it.

use std::io;
use std::rc::Rc;

use isolazi_protocol::{Event, Reply, ServerMessage, Transport};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, spawn_local};

use crate::container::log::LogWriter;
use crate::launch::Launched;
use crate::shim::client;
use crate::shim::process::{OurEnds, Process, Pumping, Pumps};

/// A process that runs, and that nobody has been told of yet.
pub(super) struct Started {
    process: Rc<Process>,
    pumps: Pumps,
    warnings: Vec<String>,
}

impl Started {
    /// Takes charge of a launched process, whose output also goes to `log`.
    pub(super) fn adopt(
        mut launched: Launched,
        ends: OurEnds,
        log: Option<LogWriter>,
    ) -> io::Result<Self> {
        let warnings = std::mem::take(&mut launched.warnings);
        let (process, pumps) = Process::adopt(launched, ends, log)?;
        Ok(Self {
            process,
            pumps,
            warnings,
        })
    }

    /// The process itself.
    pub(super) fn process(&self) -> &Rc<Process> {
        &self.process
    }

    /// Nobody asked for it: it is a restart.
    pub(super) fn unannounced(self) -> Running {
        Running {
            pumping: self.pumps.start(&self.process),
            process: self.process,
            session: None,
        }
    }

    /// Tells the caller, who with `attach` stays and misses nothing.
    pub(super) async fn announce(self, caller: Transport<UnixStream>, attach: bool) -> Running {
        let following = attach.then(|| self.process.follow());
        let caller = tell(caller, self.warnings, attach).await;
        let session = following.map(|following| {
            let (stream, received) = caller.into_parts();
            let process = Rc::clone(&self.process);
            spawn_local(client::attach(stream, received, process, following))
        });
        Running {
            pumping: self.pumps.start(&self.process),
            process: self.process,
            session,
        }
    }
}

/// Lets a caller follow a process that runs, from here to its end.
pub(super) async fn attach(process: &Rc<Process>, caller: Transport<UnixStream>) {
    let following = process.follow();
    let caller = tell(caller, Vec::new(), true).await;
    let (stream, received) = caller.into_parts();
    client::attach(stream, received, Rc::clone(process), following).await;
}

/// The caller may be gone by now; the process runs all the same.
async fn tell(
    mut caller: Transport<UnixStream>,
    warnings: Vec<String>,
    attach: bool,
) -> Transport<UnixStream> {
    let warnings = warnings.into_iter().map(Event::Warning);
    for event in warnings.chain([Event::Started]) {
        let _ = caller.send_message(&ServerMessage::Event(event)).await;
    }
    if !attach {
        let done = ServerMessage::Reply(Ok(Reply::Done));
        let _ = caller.send_message(&done).await;
    }
    caller
}

/// A process whose output is pumped.
pub(super) struct Running {
    process: Rc<Process>,
    pumping: Pumping,
    session: Option<JoinHandle<()>>,
}

impl Running {
    /// Waits for the end of the process and of its output; returns its status.
    pub(super) async fn ended(&mut self) -> i32 {
        let code = self.process.wait().await;
        self.pumping.drained().await;
        code
    }

    /// Lets the followers go, after the last output, which they may take their
    /// time for.
    pub(super) async fn finish(self, code: i32) {
        self.process.finish(code);
        if let Some(session) = self.session {
            let _ = session.await;
        }
    }
}
