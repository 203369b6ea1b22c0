//! One view of the two places where containers live: this host's kernel and
//! the virtual machine.
//!
//! Names and starts of ids mean the same container wherever it lives, so each
//! command looks it up in both. What the machine has is known without it: each
//! command that changes something there leaves a list on the host.
//!
//! ```text
//!  locate ─► machine's list has none of that name ──► here
//!        └─► it has one ─► here, too? ─ no ──────────► the machine
//!                                    └─ yes ─► the whole name decides, or it is ambiguous
//! ```

use std::fs::{self, File};

use anyhow::{Context as _, Result, bail};
use isolazi_protocol::{ContainerSummary, ErrorCode, Isolation, Reply, Request};

use super::Context;
use crate::engine::{Engine, EngineError};
use crate::machine::known;

/// How well a reference fits a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It is the start of its id.
    Start,
    /// It is its name or its id.
    Whole,
}

fn fit(container: &ContainerSummary, reference: &str) -> Option<Fit> {
    let id = container.id.as_str();
    if container.name == reference || id == reference {
        return Some(Fit::Whole);
    }
    (!reference.is_empty() && id.starts_with(reference)).then_some(Fit::Start)
}

/// A container, and where it lives.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) isolation: Isolation,
    pub(crate) container: ContainerSummary,
}

impl Context {
    /// The containers of the place that the user chose, or of both, newest
    /// first. A machine that is stopped is not started for that.
    pub(crate) async fn residents(&self, all: bool, size: bool) -> Result<Vec<Resident>> {
        let wanted = |place| self.place.is_none_or(|chosen| chosen == place);
        let request = Request::List { all, size };
        let mut found = Vec::new();
        if wanted(Isolation::Process) && self.may_have_containers_here() {
            let engine = self.engine_in(Isolation::Process)?;
            found.extend(here(
                Isolation::Process,
                ask_for_list(&engine, &request).await?,
            ));
        }
        if wanted(Isolation::Vm) {
            found.extend(here(Isolation::Vm, self.in_machine(&request, all).await?));
        }
        found.sort_by_key(|it| std::cmp::Reverse(it.container.created_at));
        Ok(found)
    }

    async fn in_machine(&self, request: &Request, all: bool) -> Result<Vec<ContainerSummary>> {
        let folder = self.paths.machine();
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        if self.virtual_machine()?.is_running().await? {
            return ask_for_list(&self.engine_in(Isolation::Vm)?, request).await;
        }
        let mut containers = known::read_stopped(&folder);
        containers.retain(|_| all);
        Ok(containers)
    }

    /// The engine that has the container. Where none has, one that says so.
    pub(crate) async fn engine_of(&self, container: &str) -> Result<Engine> {
        let place = match self.place {
            Some(place) => place,
            None => self.locate(container).await?,
        };
        self.engine_in(place)
    }

    async fn locate(&self, reference: &str) -> Result<Isolation> {
        let fits = |containers: &[ContainerSummary]| {
            containers.iter().filter_map(|it| fit(it, reference)).max()
        };
        let Some(there) = fits(&self.known_in_machine()) else {
            return Ok(self.default_place());
        };
        let here = match self.may_have_containers_here() {
            true => fits(&list(&self.engine_in(Isolation::Process)?).await?),
            false => None,
        };
        match here {
            None => Ok(Isolation::Vm),
            Some(here) if here > there => Ok(Isolation::Process),
            Some(here) if here < there => Ok(Isolation::Vm),
            Some(_) => bail!(
                "'{reference}' is the start of several container ids, here and in the machine; give more of it"
            ),
        }
    }

    /// The containers of the machine, as a command last saw them.
    pub(crate) fn known_in_machine(&self) -> Vec<ContainerSummary> {
        known::read(&self.paths.machine())
    }

    /// To be called after a command has changed which containers there are.
    pub(crate) async fn refresh(&self, engine: &Engine) -> Result<()> {
        match engine.isolation() {
            Isolation::Process => Ok(()),
            Isolation::Vm => Ok(known::write(&self.paths.machine(), list(engine).await?)?),
        }
    }

    /// Held while a container gets its name, so that it has it in one place only.
    pub(crate) fn lock_names(&self) -> Result<File> {
        let root = self.paths.root();
        let path = root.join("names.lock");
        let failed = || format!("cannot use {}", path.display());
        fs::create_dir_all(root).with_context(failed)?;
        let file = File::create(&path).with_context(failed)?;
        file.lock().with_context(failed)?;
        Ok(file)
    }

    /// Refuses a name that a container in the other place has.
    pub(crate) async fn ensure_free(&self, name: &str, place: Isolation) -> Result<()> {
        let elsewhere = match place {
            Isolation::Process => self.known_in_machine(),
            Isolation::Vm if self.may_have_containers_here() => {
                list(&self.engine_in(Isolation::Process)?).await?
            }
            Isolation::Vm => Vec::new(),
        };
        if elsewhere.iter().any(|container| container.name == name) {
            bail!(
                "the name '{name}' is taken; remove that container (isolazi rm {name}) or choose another name"
            );
        }
        Ok(())
    }
}

fn here(isolation: Isolation, containers: Vec<ContainerSummary>) -> impl Iterator<Item = Resident> {
    containers.into_iter().map(move |container| Resident {
        isolation,
        container,
    })
}

/// All containers of an engine.
pub(crate) async fn list(engine: &Engine) -> Result<Vec<ContainerSummary>> {
    let request = Request::List {
        all: true,
        size: false,
    };
    ask_for_list(engine, &request).await
}

/// What an engine lists; nothing where it may not be asked.
async fn ask_for_list(engine: &Engine, request: &Request) -> Result<Vec<ContainerSummary>> {
    match engine.ask(request).await {
        Ok(Reply::Containers(containers)) => Ok(containers),
        Ok(_) => bail!("the agent did not list its containers"),
        Err(error) if is_forbidden(&error) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn is_forbidden(error: &EngineError) -> bool {
    let refusal = error.refusal();
    refusal.is_some_and(|refusal| refusal.code == ErrorCode::Permission)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::ContainerState;

    #[test]
    fn whole_names_win_over_starts_of_ids() {
        let container = known::sample(ContainerState::Created);
        assert_eq!(fit(&container, "web"), Some(Fit::Whole));
        assert_eq!(fit(&container, container.id.as_str()), Some(Fit::Whole));
        assert_eq!(fit(&container, "abab"), Some(Fit::Start));
        for other in ["", "we", "webs", "b"] {
            assert_eq!(fit(&container, other), None, "{other}");
        }
        assert!(Fit::Whole > Fit::Start);
    }
}
