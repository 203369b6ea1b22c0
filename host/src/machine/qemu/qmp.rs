//! QEMU's monitor protocol, as far as plugging devices needs it
//! (`docs/interop/qmp-spec.rst`). What QEMU says is bounded: a guest may have
//! taken it over.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

use super::handed::Handed;
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
        let request = request(command, &arguments);
        let written = self.stream.write_all(request.as_bytes()).await;
        written.map_err(|error| broken(&error.to_string()))?;
        self.answer(command).await
    }

    /// Gives QEMU an open file or socket, under a name for further commands.
    pub(super) async fn hand_over(
        &mut self,
        name: &str,
        handed: Handed,
    ) -> Result<(), MachineError> {
        let request = request("getfd", &json!({ "fdname": name }));
        let stream = self.stream.get_ref();
        let sent = stream.async_io(Interest::WRITABLE, || {
            send_with(stream, request.as_bytes(), handed.number())
        });
        let failed = |error: io::Error| broken(&error.to_string());
        let sent = sent.await.map_err(failed)?;
        // Its number went with the first byte.
        let rest = &request.as_bytes()[sent..];
        self.stream.write_all(rest).await.map_err(failed)?;
        self.answer("getfd").await.map(drop)
    }

    async fn answer(&mut self, command: &str) -> Result<Value, MachineError> {
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

fn request(command: &str, arguments: &Value) -> String {
    format!(
        "{}\n",
        json!({ "execute": command, "arguments": arguments })
    )
}

/// Sends what fits, and a descriptor with it (unix(7), `SCM_RIGHTS`).
fn send_with(stream: &UnixStream, bytes: &[u8], descriptor: RawFd) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(&[descriptor])];
    let bytes = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(
        stream.as_raw_fd(),
        &bytes,
        &rights,
        flags,
        None,
    )?)
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
    use std::io::IoSliceMut;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        assert_eq!(answer(r#"{"return": {"a": 1}}"#), Some(Ok(json!({"a": 1}))));
        assert_eq!(answer(r#"{"event": "RESET"}"#), None);
        let refused = answer(r#"{"error": {"class": "x", "desc": "no\u001b[1m"}}"#);
        assert_eq!(refused, Some(Err("no\\u{1b}[1m".to_owned())));
        assert!(answer("{").unwrap().is_err());
    }

    #[tokio::test]
    async fn a_descriptor_goes_with_the_command_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listening = Handed::listening(&path).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qemu = async {
            let mut buffer = [0; 1024];
            let mut control = nix::cmsg_space!(RawFd);
            theirs.readable().await.unwrap();
            let (length, received) = theirs
                .async_io(Interest::READABLE, || {
                    let mut bytes = [IoSliceMut::new(&mut buffer)];
                    let descriptor = theirs.as_raw_fd();
                    let room = Some(&mut control[..]);
                    let message = recvmsg::<()>(descriptor, &mut bytes, room, MsgFlags::empty())?;
                    let rights = message.cmsgs()?.any(
                        |it| matches!(it, ControlMessageOwned::ScmRights(it) if it.len() == 1),
                    );
                    Ok((message.bytes, rights))
                })
                .await
                .unwrap();
            assert!(received);
            let mut theirs = theirs;
            theirs
                .write_all(b"{\"event\": \"X\"}\n{\"return\": {}}\n")
                .await
                .unwrap();
            serde_json::from_slice::<Value>(&buffer[..length]).unwrap()
        };
        let mut qmp = Qmp {
            stream: BufReader::new(ours),
        };
        let handed = Handed::connected(&path).unwrap();
        let (done, asked) = tokio::join!(qmp.hand_over("share-1", handed), qemu);
        done.unwrap();
        let expected = json!({ "execute": "getfd", "arguments": { "fdname": "share-1" } });
        assert_eq!(asked, expected);
    }
}
