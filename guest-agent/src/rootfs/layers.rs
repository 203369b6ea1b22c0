//! The store of unpacked layers.
