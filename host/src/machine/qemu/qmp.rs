//! QEMU's monitor protocol, as far as plugging devices needs it
//! (`docs/interop/qmp-spec.rst`). What QEMU says is bounded: a guest may have
//! taken it over.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::machine::MachineError;

const LONGEST_LINE: u64 = 1 << 20;
/// Events that may come before the answer.
const MOST_EVENTS: usize = 1000;

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves negotiation mode.
    pub(super) async fn connect(socket: &Path) -> Result<Self, MachineError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(MachineError::io("reach QEMU at", socket))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
        };
        qmp.line().await?;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Executes a command and waits for its answer.
    pub(super) async fn execute(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, MachineError> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        let written = self.stream.write_all(request.as_bytes()).await;
        written.map_err(|error| broken(&error.to_string()))?;
        for _ in 0..MOST_EVENTS {
            if let Some(answer) = answer(&self.line().await?) {
                return answer.map_err(|reason| {
                    MachineError::Failed(format!("QEMU refused {command}: {reason}"))
                });
            }
        }
        Err(broken("no answer among its events"))
    }

    async fn line(&mut self) -> Result<String, MachineError> {
        let mut line = String::new();
        let read = (&mut self.stream)
            .take(LONGEST_LINE)
            .read_line(&mut line)
            .await;
        read.map_err(|error| broken(&error.to_string()))?;
        match line.ends_with('\n') {
            true => Ok(line),
            false => Err(broken("it hung up")),
        }
    }
}

/// What a line answers; `None` for an event.
fn answer(line: &str) -> Option<Result<Value, String>> {
    let Ok(mut message) = serde_json::from_str::<Value>(line) else {
        return Some(Err("not JSON".to_owned()));
    };
    if let Some(value) = message.get_mut("return") {
        return Some(Ok(value.take()));
    }
    let error = message.get("error")?;
    let reason = error.get("desc").and_then(Value::as_str);
    Some(Err(crate::output::printable(
        reason.unwrap_or("no reason given"),
    )))
}

fn broken(reason: &str) -> MachineError {
    MachineError::Failed(format!("lost QEMU's monitor: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        assert_eq!(answer(r#"{"return": {"a": 1}}"#), Some(Ok(json!({"a": 1}))));
        assert_eq!(answer(r#"{"event": "RESET"}"#), None);
        let refused = answer(r#"{"error": {"class": "x", "desc": "no\u001b[1m"}}"#);
        assert_eq!(refused, Some(Err("no\\u{1b}[1m".to_owned())));
        assert!(answer("{").unwrap().is_err());
    }
}
