//! cgroup limits.
