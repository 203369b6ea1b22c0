//! Which containers `ps` shows.

use anyhow::{Context as _, Result, bail};
use isolazi_protocol::{ContainerState, ContainerSummary};
use regex_lite::Regex;

use super::fields;
use crate::cli::PsArgs;
use crate::commands::filter::Filters;
use crate::commands::places::Resident;
use crate::image::Reference;

const KEYS: [&str; 12] = [
    "name",
    "id",
    "status",
    "label",
    "ancestor",
    "exited",
    "before",
    "since",
    "volume",
    "network",
    "isolation",
    "health",
];
/// Docker's words for how a container is.
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
/// Docker's words for where a container is in its life.
const STATUSES: [&str; 7] = [
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

/// What was asked for, checked.
#[derive(Debug)]
pub(super) struct Selection {
    filters: Filters,
    names: Vec<Regex>,
    exit_codes: Vec<i32>,
    all: bool,
    /// Most containers to show.
    last: Option<usize>,
}

impl Selection {
    pub(super) fn new(args: &PsArgs) -> Result<Self> {
        let filters = Filters::parse(&args.filter, &KEYS)?;
        if let Some(status) = filters.values("status").find(|it| !STATUSES.contains(it)) {
            bail!(
                "there is no status '{status}'; use one of {}",
                STATUSES.join(", ")
            );
        }
        if let Some(health) = filters.values("health").find(|it| !HEALTHS.contains(it)) {
            bail!(
                "there is no health '{health}'; use one of {}",
                HEALTHS.join(", ")
            );
        }
        let names = filters
            .values("name")
            // Docker's names start with a slash.
            .map(|name| name.replacen("^/", "^", 1))
            .map(|name| {
                Regex::new(&name)
                    .ok()
                    .with_context(|| format!("filter 'name={name}' is not a regular expression"))
            })
            .collect::<Result<_>>()?;
        let exit_codes = filters
            .values("exited")
            .map(|code| {
                code.parse()
                    .with_context(|| format!("filter 'exited={code}' is not an exit status"))
            })
            .collect::<Result<_>>()?;
        let last = match (args.latest, args.last) {
            (true, _) => Some(1),
            (false, Some(last)) => usize::try_from(last).ok().filter(|it| *it > 0),
            (false, None) => None,
        };
        Ok(Self {
            // Who asks for a state other than running wants to see it.
            all: args.all || last.is_some() || filters.has("status") || filters.has("exited"),
            filters,
            names,
            exit_codes,
            last,
        })
    }

    /// Whether containers that do not run have to be known, if only to
    /// compare with.
    pub(super) fn needs_all(&self) -> bool {
        self.all || self.filters.has("before") || self.filters.has("since")
    }

    /// Those of `containers`, newest first, that are to be shown.
    pub(super) fn apply(&self, containers: Vec<Resident>) -> Result<Vec<Resident>> {
        let before = self.moments("before", &containers)?;
        let since = self.moments("since", &containers)?;
        let last = self.last.unwrap_or(usize::MAX);
        let fits = |it: &Resident| {
            let created_at = it.container.created_at;
            // Of several moments each holds.
            before.iter().all(|moment| created_at < *moment)
                && since.iter().all(|moment| created_at > *moment)
                && self.fits(it)
        };
        Ok(containers.into_iter().filter(fits).take(last).collect())
    }

    /// When the containers that a filter names were created.
    fn moments(&self, key: &str, residents: &[Resident]) -> Result<Vec<u64>> {
        let containers = || residents.iter().map(|it| &it.container);
        let named = |name: &str| {
            let exact = containers().find(|it| it.name == name);
            let by_id = || containers().find(|it| it.id.as_str().starts_with(name));
            exact.or_else(by_id).filter(|_| !name.is_empty())
        };
        let moments = self.filters.values(key).map(|name| {
            named(name)
                .map(|it| it.created_at)
                .with_context(|| format!("no such container: {name}; isolazi ps -a lists them"))
        });
        moments.collect()
    }

    fn fits(&self, resident: &Resident) -> bool {
        let (filters, container) = (&self.filters, &resident.container);
        let running = container.state.is_active();
        let exited = match container.state {
            ContainerState::Exited { code, .. } => Some(code),
            _ => None,
        };
        (self.all || running)
            && (self.names.is_empty() || self.names.iter().any(|it| it.is_match(&container.name)))
            && (self.exit_codes.is_empty()
                || exited.is_some_and(|code| self.exit_codes.contains(&code)))
            && filters.any("id", |id| container.id.as_str().starts_with(id))
            && filters.any("status", |status| status == fields::state(&container.state))
            && filters.any("ancestor", |image| is_ancestor(image, container))
            && filters.any("volume", |volume| {
                let mut mounts = container.mounts.iter();
                mounts.any(|mount| mount.source == volume || mount.target == volume)
            })
            && filters.any("network", |name| {
                fields::networks(&container.network)
                    .iter()
                    .any(|it| it == name)
            })
            && filters.any("isolation", |name| {
                name == fields::isolation(resident.isolation)
            })
            && filters.any("health", |health| health == fields::health(container))
            && filters.labels(&container.labels)
    }
}

/// Whether a container was made from an image, named by reference or id.
fn is_ancestor(image: &str, container: &ContainerSummary) -> bool {
    let id = image.strip_prefix("sha256:").unwrap_or(image);
    if !id.is_empty() && container.image_id.hex().starts_with(id) {
        return true;
    }
    let canonical = |text: &str| Reference::parse(text).ok().map(|it| it.canonical());
    match (canonical(image), canonical(&container.image)) {
        (Some(wanted), Some(known)) => wanted == known,
        _ => image == container.image,
    }
}
