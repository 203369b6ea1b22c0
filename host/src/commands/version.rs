//! `isolazi version`.

use isolazi_protocol::GENERATION;

use crate::output;

pub(super) fn version() {
    output::result(format!(
        "isolazi {} (protocol {GENERATION}, {}/{})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    ));
}
