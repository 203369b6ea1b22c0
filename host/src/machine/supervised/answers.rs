//! What the supervisor is asked, and what it answers.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use isolazi_protocol::{PortRequest, one_line};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::consent::Consent;
use super::publisher::hold_soon;
use super::supervisor::{Phase, Supervisor};
use super::wire::{self, Answer, Ask, Ready};
use crate::machine::{MachineError, MachineState, Word};
use crate::ports::Held;

/// Longest question.
const LONGEST_ASK: u64 = 64 << 10;
/// For ports of a container that has just ended, which are given up in a moment.
const PATIENCE: Duration = Duration::from_millis(250);

impl Supervisor {
    pub(super) async fn serve(self: Rc<Self>, stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        let read = (&mut stream).take(LONGEST_ASK).read_line(&mut line).await;
        let Ok(ask) = read.and_then(|_| Ok(serde_json::from_str(&line)?)) else {
            return;
        };
        let answer = match ask {
            // More is said about it.
            Ask::Publish { ports, word } => return self.publish(stream, &ports, word).await,
            Ask::State => self.state().await,
            Ask::Stop => {
                self.stop.notify_one();
                self.stopped().await
            }
            Ask::Ready => match self.ready().await {
                Ok(ready) => Answer::Ready(ready),
                Err(answer) => answer,
            },
            Ask::Share {
                path,
                read_only,
                word,
            } => match self.ready().await {
                Ok(_) => self
                    .share(&path, read_only, word)
                    .await
                    .unwrap_or_else(|error| Answer::Failed(one_line(&error))),
                Err(answer) => answer,
            },
        };
        self.reply(&mut stream, &answer).await;
    }

    async fn reply(&self, stream: &mut BufReader<UnixStream>, answer: &Answer) {
        if let Ok(line) = wire::line(answer) {
            // Whoever has gone does not need it.
            let _ = stream.write_all(&line).await;
            self.answered.notify_one();
        }
    }

    /// Takes ports, and keeps that the user has published them, or that nobody has.
    async fn take(
        &self,
        ports: &[PortRequest],
        word: Word,
    ) -> anyhow::Result<(Vec<PortRequest>, Vec<Held>)> {
        let consent = self.place.layout.consent();
        if word == Word::Record {
            Consent::read(&consent)?.check_ports(ports)?;
        }
        let (settled, held) = hold_soon(ports, PATIENCE, || false).await?;
        if word == Word::User {
            Consent::publish(&consent, &settled)?;
        }
        Ok((settled, held))
    }

    /// Takes ports, and relays them once it is said for which container.
    async fn publish(&self, mut stream: BufReader<UnixStream>, ports: &[PortRequest], word: Word) {
        if let Err(answer) = self.ready().await {
            return self.reply(&mut stream, &answer).await;
        }
        let held = match self.take(ports, word).await {
            Ok((settled, held)) => {
                self.reply(&mut stream, &Answer::Published(settled)).await;
                held
            }
            Err(error) => {
                let answer = Answer::Failed(format!("{error:#}"));
                return self.reply(&mut stream, &answer).await;
            }
        };
        let mut line = String::new();
        let read = (&mut stream).take(LONGEST_ASK).read_line(&mut line).await;
        let container = read.ok().and_then(|_| line.trim().parse().ok());
        if let (Some(container), Some(publisher)) = (container, &*self.publisher.borrow()) {
            publisher.assign(container, held);
        }
    }

    async fn stopped(&self) -> Answer {
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
        Answer::Stopped
    }

    /// For somebody who is about to use the machine; else what is to be
    /// answered instead.
    async fn ready(&self) -> Result<Ready, Answer> {
        let mut phase = self.phase.subscribe();
        let settled = phase
            .wait_for(|phase| !matches!(phase, Phase::Booting))
            .await;
        match settled.as_deref() {
            Ok(Phase::Running(ready)) => {
                self.last_use.set(Instant::now());
                return Ok(ready.clone());
            }
            Ok(Phase::Failed(reason)) => return Err(Answer::Failed(reason.clone())),
            _ => {}
        }
        drop(settled);
        Err(self.stopped().await)
    }

    async fn state(&self) -> Answer {
        if matches!(*self.phase.borrow(), Phase::Stopping) {
            self.stopped().await;
            return Answer::State(MachineState::Stopped);
        }
        let machine = self.machine.borrow();
        Answer::State(match (&*self.phase.borrow(), &*machine) {
            (Phase::Running(ready), Some(booted)) => MachineState::Running {
                pid: Some(booted.pid),
                accelerator: booted.accelerator.clone(),
                boot_ms: ready.boot_ms,
                shares: booted.shared_folders(),
            },
            (Phase::Failed(_), _) => MachineState::Stopped,
            _ => MachineState::Booting,
        })
    }

    async fn share(
        &self,
        path: &Path,
        read_only: bool,
        word: Word,
    ) -> Result<Answer, MachineError> {
        let consent = self.place.layout.consent();
        match word {
            Word::User => Consent::share(&consent, path, read_only)?,
            Word::Record => Consent::read(&consent)?.check(path, read_only)?,
        }
        let shares = self
            .machine
            .borrow()
            .as_ref()
            .map(|booted| Rc::clone(&booted.shares));
        let Some(shares) = shares else {
            return Ok(Answer::Failed("the machine is going down".to_owned()));
        };
        // One after the other: each takes the next free slot.
        let mut shares = shares.lock().await;
        Ok(Answer::Shared(shares.share(path, read_only).await?))
    }
}
