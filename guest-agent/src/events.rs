//! Tells the engine's journal what happens, in Docker's words.
//!
//! Whoever does something tells it: the agent what it does itself, the shims
//! what becomes of their containers. That the journal cannot be written (the
//! disk is full, say) keeps nobody from anything, so nobody is told of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use isolazi_protocol::{ContainerId, Happening, Journal, ObjectKind};

use crate::container::{ContainerDir, Record, now};

/// What else there is to say of a deed, by Docker's names.
pub(crate) type Further<'a> = &'a [(&'a str, String)];

/// Tells what happened to the container in `dir`.
pub(crate) fn container(dir: &ContainerDir, action: &str, further: Further<'_>) {
    // One that is just being removed has nothing to say any more.
    if let Ok(record) = dir.record() {
        of(&record, dir, action, further);
    }
}

/// The same, of a container that may be gone by now.
pub(crate) fn of(record: &Record, dir: &ContainerDir, action: &str, further: Further<'_>) {
    let spec = &record.spec;
    let mut attributes = spec.options.labels.clone();
    attributes.insert("image".to_owned(), spec.image.reference.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    write(
        engine_of(dir),
        ObjectKind::Container,
        action,
        record.id.as_str(),
        attributes,
        further,
    );
}

/// Tells that the volumes of a container come to use, or are not used any more.
pub(crate) fn volumes_of(dir: &ContainerDir, action: &str) {
    let Ok(record) = dir.record() else {
        return;
    };
    for mount in &record.spec.options.volumes {
        let mut further = vec![("container", record.id.to_string())];
        if action == "mount" {
            further.push(("destination", mount.target.clone()));
            further.push(("read/write", (!mount.read_only).to_string()));
        }
        if let Some(root) = engine_of(dir) {
            volume(root, &mount.name, action, &further);
        }
    }
}

/// Tells what happened to a volume of the engine in `root`.
pub(crate) fn volume(root: &Path, name: &str, action: &str, further: Further<'_>) {
    let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    let kind = ObjectKind::Volume;
    write(Some(root), kind, action, name, attributes, further);
}

/// Tells what happened to a network of the engine in `root`.
pub(crate) fn network(root: &Path, name: &str, id: &str, action: &str, further: Further<'_>) {
    let attributes = [("name", name), ("type", "bridge")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let kind = ObjectKind::Network;
    write(Some(root), kind, action, id, attributes.into(), further);
}

/// An id for a further process.
pub(crate) fn exec_id() -> String {
    let mut bytes = [0; 32];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if random.is_err() {
        bytes[..8].copy_from_slice(&now().to_ne_bytes());
    }
    ContainerId::from_random(&bytes).to_string()
}

/// A container's folder lies two levels below the engine's.
fn engine_of(dir: &ContainerDir) -> Option<&Path> {
    dir.path().parent()?.parent()
}

fn write(
    root: Option<&Path>,
    kind: ObjectKind,
    action: &str,
    id: &str,
    mut attributes: BTreeMap<String, String>,
    further: Further<'_>,
) {
    let further = further.iter();
    attributes.extend(further.map(|(key, value)| ((*key).to_owned(), value.clone())));
    let happening = Happening {
        time: now(),
        kind,
        action: action.to_owned(),
        id: id.to_owned(),
        attributes,
    };
    if let Some(root) = root {
        let _ = Journal::new(root).write(&happening);
    }
}
