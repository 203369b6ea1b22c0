//! Verbs that do the same to each of several things, and go on where one fails.

use anyhow::Result;
use isolazi_protocol::Request;
use serde_json::Value;

use crate::commands::FAILURE;
use crate::engine::Engine;
use crate::output::{self, printable};

/// Makes a request for each name, and prints those for which it was done.
pub(super) async fn ask(
    engine: &Engine,
    names: &[String],
    request: impl Fn(&str) -> Request,
) -> Result<u8> {
    let mut status = 0;
    for name in names {
        match engine.ask(&request(name)).await {
            Ok(_) => output::result(printable(name)),
            Err(error) => {
                output::error(error);
                status = FAILURE;
            }
        }
    }
    Ok(status)
}

/// What there is to tell of those that exist, and the status that says whether all do.
pub(super) async fn describe(
    names: &[String],
    describe: impl AsyncFn(String) -> Result<Vec<Value>>,
) -> (Vec<Value>, u8) {
    let mut all = Vec::new();
    let mut status = 0;
    for name in names {
        match describe(name.clone()).await {
            Ok(found) => all.extend(found),
            Err(error) => {
                output::failure(&format!("{error:#}"));
                status = FAILURE;
            }
        }
    }
    (all, status)
}
