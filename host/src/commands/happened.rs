//! Tells this host's journal what a command did to images, in Docker's words.
//! That it cannot be written keeps no command from anything.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use isolazi_protocol::{Happening, Journal, ObjectKind};

use crate::commands::Context;
use crate::image::Reference;

impl Context {
    /// Something happened to an image that is known by its id.
    pub(super) fn image_happened(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.happened(ObjectKind::Image, action, id, attributes);
    }

    /// Something happened to an image on a registry, where only names count.
    pub(super) fn name_happened(&self, action: &str, name: &Reference) {
        self.image_happened(action, &name.to_string(), &name.familiar_name());
    }

    /// Something happened.
    pub(super) fn happened(
        &self,
        kind: ObjectKind,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.map_or(0, |elapsed| elapsed.as_nanos() as u64);
        let happening = Happening {
            time,
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
        };
        let _ = Journal::new(self.paths.images()).write(&happening);
    }
}
