//! Images: references, registries, the local store.
