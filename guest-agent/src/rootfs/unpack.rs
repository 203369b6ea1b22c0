//! Unpacks one layer.
