//! What the fuzz target of plans needs that nobody else does (`tests/fuzz`): the
//! way from a specification to a plan, without layers, volumes or shared folders.

use std::path::Path;

use isolazi_protocol::{BindMount, BindSource, ContainerId, ContainerSpec, WireError};

use crate::container::files::{ContainerDir, Record};
use crate::container::plan::{self, PlanInputs};
use crate::container::{security, shares};
use crate::launch::plan::LaunchPlan;

/// What the agent would launch for `spec`, with all that is the container's own
/// below `folder`. Nothing is made there.
///
/// # Errors
/// What the host would be told.
pub fn plan(id: &ContainerId, spec: ContainerSpec, folder: &Path) -> Result<LaunchPlan, WireError> {
    plan::validate(&spec)?;
    let inputs = PlanInputs {
        peer: None,
        layers: spec.layers.iter().map(|it| folder.join(it.hex())).collect(),
        seccomp: security::programs(&spec)?,
        volumes: vec![folder.join("volume"); spec.options.volumes.len()],
    };
    let mounts = spec.mounts.into_iter().map(|it| local(it, folder));
    let spec = ContainerSpec {
        mounts: mounts.collect::<Result<_, _>>()?,
        ..spec
    };
    let record = Record {
        id: id.clone(),
        name: String::new(),
        created_at: 0,
        userns: None,
        spec,
    };
    plan::plan(&record, &ContainerDir::new(folder.to_owned()), inputs)
}

/// A shared folder would have to be plugged in; one on this machine stands for it.
fn local(mut mount: BindMount, folder: &Path) -> Result<BindMount, WireError> {
    if let BindSource::Share { subpath, .. } = &mount.source {
        let path = folder.join(shares::inside(subpath)?);
        mount.source = BindSource::Path(path.to_string_lossy().into_owned());
    }
    Ok(mount)
}
