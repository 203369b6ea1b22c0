//! What a boot of their machine means for containers: those with `--restart
//! always` and `unless-stopped` come back, and those with `--rm` that the end of
//! the machine took by surprise, started or not, go now.
//!
//! A virtual machine's supervisor sees to that after every boot. This host's
//! own kernel has no daemon of ours that would notice a boot, so the first
//! command after one does.

use std::time::{SystemTime, UNIX_EPOCH};

use isolazi_protocol::{BindSource, ContainerDetail, Reply, Request};

use crate::connection::ConversationError;
use crate::engine::{Engine, EngineError};
use crate::machine::Word;

/// Starts and removes what is to be, of the containers made before `boot`;
/// returns what went wrong, in lines.
///
/// # Errors
/// Where the engine cannot be asked which containers there are.
pub async fn revive(engine: &Engine, boot: SystemTime) -> Result<Vec<String>, EngineError> {
    let everything = Request::List {
        all: true,
        size: false,
    };
    let Reply::Containers(containers) = engine.ask(&everything).await? else {
        return Err(ConversationError::Unexpected.into());
    };
    let boot = boot.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut failures = Vec::new();
    for container in containers {
        // Whoever has made one since is about to start it.
        if container.state.is_active() || u128::from(container.created_at) >= boot.as_nanos() {
            continue;
        }
        if let Err(error) = revive_one(engine, container.id.as_str()).await {
            let error = anyhow::Error::from(error);
            failures.push(format!("after the boot, {}: {error:#}", container.name));
        }
    }
    Ok(failures)
}

async fn revive_one(engine: &Engine, id: &str) -> Result<(), EngineError> {
    let request = Request::Inspect {
        container: id.to_owned(),
    };
    let Reply::Container(detail) = engine.ask(&request).await? else {
        return Err(ConversationError::Unexpected.into());
    };
    if detail.spec.restart.brings_back(&detail.state) {
        let start = start_request(engine, &detail, false).await?;
        engine.ask(&start).await?;
    } else if detail.spec.auto_remove {
        let remove = Request::Remove {
            container: id.to_owned(),
            force: false,
            volumes: true,
        };
        match engine.ask(&remove).await {
            // By itself, as one that has just ended does.
            Err(error) if error.is_gone() => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// The request that starts a container which exists. A machine that has booted
/// since knows nothing of the folders that were shared with it, so they are
/// shared again.
pub async fn start_request(
    engine: &Engine,
    detail: &ContainerDetail,
    attach: bool,
) -> Result<Request, EngineError> {
    let mut sources = Vec::new();
    for mount in &detail.spec.mounts {
        let source = match &mount.source {
            BindSource::Share { .. } => {
                let path = std::path::Path::new(&mount.host_path);
                engine
                    .machine()
                    .share(path, mount.read_only, Word::Record)
                    .await?
            }
            here @ BindSource::Path(_) => here.clone(),
        };
        sources.push(source);
    }
    Ok(Request::Start {
        container: detail.id.to_string(),
        attach,
        sources,
        restarts: false,
    })
}

#[cfg(target_os = "linux")]
pub use host::is_first_since_boot;

#[cfg(target_os = "linux")]
mod host {
    use std::fs;
    use std::path::Path;

    use crate::files;

    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    /// The boot that containers have last been started for.
    const NOTE: &str = "boot-id";

    /// Whether nobody has asked this since the host booted, for the data below
    /// `root`. Asking counts.
    pub fn is_first_since_boot(root: &Path) -> bool {
        let now = fs::read(BOOT_ID).unwrap_or_default();
        let note = root.join(NOTE);
        let known = fs::read(&note).ok();
        if known.as_ref() == Some(&now) || now.is_empty() || !root.join("containers").is_dir() {
            return false;
        }
        // A note that cannot be kept would start containers at every command.
        files::replace(&note, &now).is_ok() && known.is_some()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_boot_is_noticed_once() {
            let root = tempfile::tempdir().unwrap();
            assert!(!is_first_since_boot(root.path()), "there is nothing yet");
            fs::create_dir(root.path().join("containers")).unwrap();
            assert!(!is_first_since_boot(root.path()), "no boot lies between");
            fs::write(root.path().join(NOTE), "an earlier boot").unwrap();
            assert!(is_first_since_boot(root.path()));
            assert!(!is_first_since_boot(root.path()));
        }
    }
}
