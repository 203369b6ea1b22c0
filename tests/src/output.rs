//! What a program said, and checks of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// How the line begins that says why a command failed.
const COMPLAINT: &str = "isolazi: ";
/// How much of an output a failure shows.
const SHOWN: usize = 4000;

/// How a program ended and what it said. The checks give the output back, so
/// that they can be chained, and show all of it when they fail.
#[derive(Debug)]
pub struct Output {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Output {
    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.stdout)
            .map_err(|error| self.complaint(&format!("standard output is no JSON: {error}")))
    }

    /// Ended with 0.
    pub fn success(self) -> Result<Self> {
        self.code(0)
    }

    /// What it ended with; `None` where a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether it ended with 0.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Ended with `code`.
    pub fn code(self, code: i32) -> Result<Self> {
        self.check(
            |it| it.status.code() == Some(code),
            || format!("expected exit status {code}"),
        )
    }

    /// Said exactly `text` on standard output.
    pub fn stdout_is(self, text: &str) -> Result<Self> {
        self.check(
            |it| it.stdout == text.as_bytes(),
            || format!("expected {text:?} on standard output"),
        )
    }

    /// Said `text`, among other things, on standard output.
    pub fn stdout_has(self, text: &str) -> Result<Self> {
        self.check(
            |it| it.stdout_text().contains(text),
            || format!("expected standard output to contain {text:?}"),
        )
    }

    /// Did not say `text` on standard output.
    pub fn stdout_lacks(self, text: &str) -> Result<Self> {
        self.check(
            |it| !it.stdout_text().contains(text),
            || format!("expected standard output not to contain {text:?}"),
        )
    }

    /// Said exactly `text` on standard error.
    pub fn stderr_is(self, text: &str) -> Result<Self> {
        self.check(
            |it| it.stderr == text.as_bytes(),
            || format!("expected {text:?} on standard error"),
        )
    }

    /// Said `text`, among other things, on standard error, whatever the case of its letters.
    pub fn stderr_has(self, text: &str) -> Result<Self> {
        let said = self.stderr_text().to_lowercase();
        self.check(
            |_| said.contains(&text.to_lowercase()),
            || format!("expected standard error to contain {text:?}"),
        )
    }

    /// Failed with `code` and, after whatever progress was told, one line that
    /// says so and contains `text`, whatever the case of its letters.
    pub fn fails_with(self, code: i32, text: &str) -> Result<Self> {
        let output = self.code(code)?.has_one_complaint()?;
        let said = output.stderr_text().to_lowercase();
        let last = said.trim_end().lines().last().unwrap_or_default();
        let fine = last.contains(&text.to_lowercase());
        output.check(
            |_| fine,
            || format!("expected {text:?} in the last line on standard error"),
        )
    }

    /// Has one line of isolazi's own on standard error, and it is the last.
    pub fn has_one_complaint(self) -> Result<Self> {
        let said = self.stderr_text();
        let complaints = said
            .lines()
            .filter(|line| line.starts_with(COMPLAINT))
            .count();
        let last = said.trim_end().lines().last().unwrap_or_default();
        let fine = complaints == 1 && last.starts_with(COMPLAINT);
        self.check(
            |_| fine,
            || format!("expected one line that starts with {COMPLAINT:?}, and nothing after it"),
        )
    }

    fn check(
        self,
        fine: impl FnOnce(&Self) -> bool,
        what: impl FnOnce() -> String,
    ) -> Result<Self> {
        if fine(&self) {
            return Ok(self);
        }
        Err(self.complaint(&what()))
    }

    /// An error that shows all there is to know of this run.
    pub fn complaint(&self, what: &str) -> anyhow::Error {
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        anyhow!(
            "{what}\n  command: {}\n  ended:   {status} after {:?}\n  stdout:  {}\n  stderr:  {}",
            self.command,
            self.elapsed,
            excerpt(&self.stdout),
            excerpt(&self.stderr)
        )
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    let more = bytes.len().saturating_sub(SHOWN);
    let text = text.replace('\n', "\n           ");
    if more == 0 {
        text
    } else {
        format!("{text} … and {more} bytes more")
    }
}
