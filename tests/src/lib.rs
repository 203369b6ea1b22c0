//! End-to-end tests of isolazi and the harness they share.
