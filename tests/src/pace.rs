//! How long cases took: what a run that has become slow is to be mended by.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

/// What each case took, by its title.
static TAKEN: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// So many are worth a line.
const SLOWEST: usize = 20;

/// Notes what a case took.
pub(crate) fn note(title: String, taken: Duration) {
    if let Ok(mut all) = TAKEN.lock() {
        all.push((taken, title));
    }
}

/// The cases that took longest, longest first.
pub(crate) fn slowest() -> String {
    let mut all = TAKEN.lock().map(|all| all.clone()).unwrap_or_default();
    all.sort_by(|a, b| b.cmp(a));
    let mut text = String::from("\nslowest cases\n");
    for (taken, title) in all.iter().take(SLOWEST) {
        let _ = writeln!(text, "{:>8.1} s  {title}", taken.as_secs_f64());
    }
    text
}
