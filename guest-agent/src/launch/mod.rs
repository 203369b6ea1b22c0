//! Creates a container's processes from an immutable plan.

pub mod plan;
