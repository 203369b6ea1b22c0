//! Where events come from: this host's own journal, and the engines.

use std::time::Duration;

use anyhow::{Result, bail};
use isolazi_protocol::{Event, Follower, Happening, Isolation, Journal, Request};
use tokio::sync::mpsc::UnboundedSender;

use crate::commands::{Context, is_possible};
use crate::connection::{Conversation, Incoming};

type Sender = UnboundedSender<Vec<Happening>>;

/// How often this host's journal is looked at, and whether there is a machine.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a machine that has hung up may take to be gone.
const GOING: Duration = Duration::from_secs(30);

/// All that happened since then, up to now. With `follow` whatever happens later is sent.
pub(super) async fn open(
    context: &Context,
    since: u64,
    now: u64,
    follow: bool,
    sender: &Sender,
) -> Result<Vec<Happening>> {
    let wanted = |place| context.place.is_none_or(|chosen| chosen == place);
    let request = |since| Request::Events {
        since: Some(since),
        until: None,
        follow,
    };
    let (mut past, follower) = Journal::new(context.paths.images()).read()?;
    past.retain(|it| it.time >= since);
    if follow {
        tokio::spawn(follow_journal(follower, sender.clone()));
    }
    // Where there has been none, somebody may want to see the first one come.
    let may_come = is_possible(Isolation::Process) && !context.paths.machine().is_dir();
    let here = context.may_have_containers_here() || follow && may_come;
    if wanted(Isolation::Process) && here {
        let engine = context.engine_in(Isolation::Process)?;
        let mut conversation = engine.open(&request(since)).await?;
        past.extend(history(&mut conversation).await?);
        if follow {
            let sender = sender.clone();
            tokio::spawn(async move { pass_on(&mut conversation, &sender).await });
        }
    }
    if wanted(Isolation::Vm) {
        let machine = InMachine {
            context: context.clone(),
            since,
            follow,
        };
        let mut conversation = machine.open_if_running().await?;
        if let Some(conversation) = &mut conversation {
            let told = history(conversation).await?;
            past.extend(told.into_iter().map(|it| not_after(it, now)));
        }
        if follow {
            tokio::spawn(machine.follow(conversation, sender.clone()));
        }
    }
    Ok(past)
}

/// The past, up to the empty piece that ends it.
async fn history(conversation: &mut Conversation) -> Result<Vec<Happening>> {
    let mut past = Vec::new();
    loop {
        match conversation.next().await? {
            Incoming::Event(Event::Happened(piece)) if piece.is_empty() => return Ok(past),
            Incoming::Event(Event::Happened(piece)) => past.extend(piece),
            _ => bail!("the agent did not say what happened"),
        }
    }
}

/// A guest's clock may be a little ahead, but what it tells of has happened.
fn not_after(mut happening: Happening, now: u64) -> Happening {
    happening.time = happening.time.min(now.saturating_sub(1));
    happening
}

/// Sends on what happens, until the other side hangs up. Returns when the last
/// of it was.
async fn pass_on(conversation: &mut Conversation, sender: &Sender) -> Option<u64> {
    let mut last = None;
    while let Ok(Incoming::Event(Event::Happened(piece))) = conversation.next().await {
        last = piece.last().map(|it| it.time).or(last);
        if !piece.is_empty() && sender.send(piece).is_err() {
            break;
        }
    }
    last
}

async fn follow_journal(mut follower: Follower, sender: Sender) {
    loop {
        tokio::time::sleep(PAUSE).await;
        // One that cannot be read now may be, the next time.
        let Ok(fresh) = follower.more() else {
            continue;
        };
        if !fresh.is_empty() && sender.send(fresh).is_err() {
            return;
        }
    }
}

/// The engine in the machine, which comes and goes.
struct InMachine {
    context: Context,
    since: u64,
    follow: bool,
}

impl InMachine {
    async fn is_running(&self) -> Result<bool> {
        if !self.context.paths.machine().is_dir() {
            return Ok(false);
        }
        Ok(self.context.virtual_machine()?.is_running().await?)
    }

    async fn open_if_running(&self) -> Result<Option<Conversation>> {
        if !self.is_running().await? {
            return Ok(None);
        }
        let request = Request::Events {
            since: Some(self.since),
            until: None,
            follow: self.follow,
        };
        let engine = self.context.engine_in(Isolation::Vm)?;
        Ok(Some(engine.open(&request).await?))
    }

    /// Follows the machine through its stops and starts.
    async fn follow(mut self, mut conversation: Option<Conversation>, sender: Sender) {
        loop {
            if let Some(conversation) = &mut conversation {
                if let Some(last) = pass_on(conversation, &sender).await {
                    // What was told is not told again.
                    self.since = last + 1;
                }
                self.await_stop().await;
            }
            if sender.is_closed() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            conversation = self.open_if_running().await.unwrap_or_default();
        }
    }

    /// A machine that is just stopping must not be dialed: that would start it again.
    async fn await_stop(&self) {
        let stopped = async {
            while self.is_running().await.unwrap_or(false) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        // Where it still runs after that, its agent was started anew.
        let _ = tokio::time::timeout(GOING, stopped).await;
    }
}
