//! Volumes: folders of the engine's that outlive containers.
//!
//! ```text
//! volumes/
//! ├── .lock                shared by whoever makes a container, exclusive for whoever removes a volume
//! └── <name>/
//!     ├── metadata.json    whose volume it is; never changes
//!     ├── lock             held while it is filled
//!     ├── .copying         content of the image, being copied
//!     ├── .copied          the same, complete and on its way into _data
//!     └── _data/           what containers see
//! ```
//!
//! Which containers have a volume is nowhere counted: their own records say it.
//! The lock keeps a container from coming to be between that look and the
//! removal, also where two programs work on the same folder. A volume appears
//! and disappears by a rename, so that it is never half there.

mod fill;
mod store;

pub use fill::{fill, give};
pub use store::{Hold, VolumeError, VolumeStore};
