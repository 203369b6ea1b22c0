//! vfkit's requests: `GET` and `POST /vm/state` (`doc/usage.md`, "RESTful API").

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::machine::Power;

/// Answers everybody from now on.
pub(crate) fn serve(socket: &Path, power: Power) -> Result<()> {
    let listener = UnixListener::bind(socket).context("the socket for requests")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = converse(stream, power) {
                eprintln!("vfkit (stand-in): a request: {error:#}");
            }
        }
    });
    Ok(())
}

fn converse(stream: UnixStream, power: Power) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, answer) = answer(&request, &body, power);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        reader
            .get_mut()
            .write_all(format!("{head}{text}").as_bytes())?;
    }
}

fn answer(request: &str, body: &[u8], power: Power) -> (&'static str, Value) {
    let words: Vec<_> = request.split_whitespace().collect();
    match words[..] {
        ["GET", "/vm/state", _] => (
            "200 OK",
            json!({
                "state": "VirtualMachineStateRunning",
                "canStart": false, "canPause": true, "canResume": false,
                "canStop": true, "canHardStop": true,
            }),
        ),
        ["POST", "/vm/state", _] => {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            match asked["state"].as_str() {
                Some("HardStop") => power.cut(),
                // The power button, which this guest does not hear.
                Some("Stop") => {}
                _ => {
                    return (
                        "500 Internal Server Error",
                        json!({ "error": "invalid state" }),
                    );
                }
            }
            ("200 OK", json!({}))
        }
        _ => ("404 Not Found", json!({})),
    }
}
