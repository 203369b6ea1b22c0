//! The role of PID 1 in a guest.
