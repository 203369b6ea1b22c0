//! Which users a container has, in Docker's and podman's words.

use isolazi_protocol::{ContainerDetail, IdMapping, UserNamespace};
use serde_json::{Value, json};

/// `HostConfig.UsernsMode`, and podman's `HostConfig.IDMappings`, which are null where
/// the container has no users of its own.
pub(super) fn describe(detail: &ContainerDetail) -> Value {
    let mode = match &detail.spec.options.userns {
        UserNamespace::Host => "",
        UserNamespace::Auto => "auto",
        UserNamespace::Rootless | UserNamespace::Mapped { .. } => "private",
    };
    let texts = |map: &[IdMapping]| map.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mappings = match &detail.userns {
        UserNamespace::Mapped { users, groups } => json!({
            "UidMap": texts(users),
            "GidMap": texts(groups),
        }),
        _ => Value::Null,
    };
    json!({
        "UsernsMode": mode,
        "IDMappings": mappings,
    })
}
