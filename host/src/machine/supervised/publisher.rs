//! Published ports of the machine's containers. The container's record says which
//! they are; here they are held and relayed for as long as it runs.
//!
//! ```text
//!  command ─ Publish(ports) ─► held ─ its container's id ─► relayed
//!  agent ─── start ──────────► held and relayed, unless they are
//!        ─── die ────────────► given up
//! ```
//!
//! A command takes the ports first, so that one which is taken is an error before
//! anything starts. The agent's events cover everything else: restarts, containers
//! that come back after a boot, and a supervisor that takes a machine over.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use isolazi_protocol::{ContainerId, Event, Happening, ObjectKind, PortRequest, Reply, Request};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use super::consent::Consent;
use super::lines::Lines;
use super::wire::Ready;
use super::{ask_agent, dial_guest};
use crate::connection::{Conversation, ConversationError, Incoming};
use crate::engine::EngineError;
use crate::ports::{Held, PortError, Relays, Room, Way, hold};

/// Clocks of host and guest are not further apart.
const A_LITTLE: Duration = Duration::from_secs(5);
/// Between two tries to follow the agent's events.
const PAUSE: Duration = Duration::from_millis(500);
/// For ports that a command may hold which has not said yet for which container.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to take ports.
const RETRY: Duration = Duration::from_millis(50);

/// The ports of a machine.
#[derive(Debug)]
pub(super) struct Publisher {
    ready: Ready,
    /// Where it is kept what the user has published.
    consent: PathBuf,
    published: RefCell<HashMap<ContainerId, Relays>>,
    room: Room,
}

/// For connections, each with two descriptors: as many as this process may have, but for
/// those that it needs itself.
fn room() -> Room {
    const SPARE: usize = 256;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let limit = raised.map_or(soft, |()| hard);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let places = (limit - SPARE.min(limit / 2)) / 2;
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
}

/// Takes ports, as soon as nobody has them any more, unless there turns out to be no need
/// to. Returns them with the numbers that they have got.
pub(super) async fn hold_soon(
    ports: &[PortRequest],
    patience: Duration,
    is_needless: impl Fn() -> bool,
) -> Result<(Vec<PortRequest>, Vec<Held>), PortError> {
    let deadline = Instant::now() + patience;
    loop {
        match hold(ports) {
            Err(PortError::Taken { .. }) if Instant::now() < deadline && !is_needless() => {}
            done => return done,
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Publisher {
    pub(super) fn new(ready: Ready, consent: PathBuf) -> Rc<Self> {
        Rc::new(Self {
            ready,
            consent,
            published: RefCell::default(),
            room: room(),
        })
    }

    /// Relays the ports to their container.
    pub(super) fn assign(&self, container: ContainerId, held: Vec<Held>) {
        let lines: Rc<dyn Way> = Rc::new(Lines::new(self.ready.clone(), &container));
        let relays = Relays::start(held, &lines, &self.room);
        // Its ports of an earlier life are given up by this.
        self.published.borrow_mut().insert(container, relays);
    }

    /// Does what the agent's events ask for, for as long as the machine runs.
    pub(super) async fn follow(self: Rc<Self>) {
        loop {
            // An agent that starts anew has its containers run on.
            if let Err(error) = self.follow_once().await {
                let lost = matches!(
                    error,
                    EngineError::Conversation(ConversationError::Transport(_))
                );
                if !lost {
                    crate::output::error(error);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow_once(self: &Rc<Self>) -> Result<(), EngineError> {
        // The guest's clock may be a little behind; to hear of something twice is fine.
        let recently = SystemTime::now() - A_LITTLE;
        let since = recently.duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = Request::Events {
            since: Some(since.as_nanos() as u64),
            until: None,
            follow: true,
        };
        let mut events = Conversation::open(dial_guest(&self.ready).await?, &request).await?;
        // What happens from here on is told, so nothing is missed in between.
        self.catch_up().await?;
        loop {
            match events.next().await? {
                Incoming::Event(Event::Happened(happenings)) => {
                    for happening in happenings {
                        self.hear(&happening);
                    }
                }
                Incoming::Done(_) => return Ok(()),
                _ => return Err(ConversationError::Unexpected.into()),
            }
        }
    }

    /// Publishes the ports of what runs, and gives up those of what does not.
    async fn catch_up(self: &Rc<Self>) -> Result<(), EngineError> {
        let running = Request::List {
            all: false,
            size: false,
        };
        let Reply::Containers(running) = ask_agent(&self.ready, &running).await? else {
            return Err(ConversationError::Unexpected.into());
        };
        let ids: Vec<ContainerId> = running.into_iter().map(|it| it.id).collect();
        self.published.borrow_mut().retain(|id, _| ids.contains(id));
        for id in ids {
            self.publish_soon(id);
        }
        Ok(())
    }

    fn hear(self: &Rc<Self>, happening: &Happening) {
        if happening.kind != ObjectKind::Container {
            return;
        }
        let Ok(id) = happening.id.parse::<ContainerId>() else {
            return;
        };
        match happening.action.as_str() {
            "start" => self.publish_soon(id),
            "die" => drop(self.published.borrow_mut().remove(&id)),
            _ => {}
        }
    }

    fn publish_soon(self: &Rc<Self>, container: ContainerId) {
        let publisher = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = publisher.publish(&container).await {
                let id = container.short();
                crate::output::failure(&format!("ports of container {id}: {error}"));
            }
        });
    }

    /// Publishes the ports of a running container, unless they are.
    async fn publish(&self, container: &ContainerId) -> anyhow::Result<()> {
        let inspect = Request::Inspect {
            container: container.to_string(),
        };
        let Reply::Container(detail) = ask_agent(&self.ready, &inspect).await? else {
            return Ok(());
        };
        let network = detail.spec.options.network;
        if !network.relayed || !detail.state.is_active() {
            return Ok(());
        }
        Consent::read(&self.consent)?.check_ports(&network.ports)?;
        let is_published = || self.published.borrow().contains_key(container);
        if is_published() {
            return Ok(());
        }
        match hold_soon(&network.ports, PATIENCE, is_published).await {
            Ok((_, held)) => self.assign(container.clone(), held),
            // By whoever has published them meanwhile.
            Err(PortError::Taken { .. }) if is_published() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
