//! A registry that misbehaves on demand, in this process.
//!
//! It serves images made by [`crate::handmade`], and answers as a case tells
//! it to, path by path. One request per connection, nothing clever.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::handmade::Image;

/// What a request is answered with.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Announced instead of the body's true length.
    length: Option<usize>,
    /// Nothing is sent at all for this long.
    delay: Duration,
}

impl Answer {
    /// A body of a media type.
    pub fn ok(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body).header("Content-Type", media_type)
    }

    /// An error, say.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            length: None,
            delay: Duration::ZERO,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces a length that the body does not have.
    #[must_use]
    pub fn announcing(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// Keeps the client waiting first.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn send(&self, to: &mut TcpStream, with_body: bool) -> std::io::Result<()> {
        thread::sleep(self.delay);
        let length = self.length.unwrap_or(self.body.len());
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        head += &format!("Content-Length: {length}\r\n");
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        to.write_all(head.as_bytes())?;
        to.write_all(b"\r\n")?;
        if with_body {
            to.write_all(&self.body)?;
        }
        to.flush()
    }
}

/// The registry; stops listening when it is dropped.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    ended: Arc<AtomicBool>,
}

impl Stub {
    /// One that answers everything but `/v2/` with 404.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stub = Self {
            address: listener.local_addr()?,
            answers: Arc::default(),
            ended: Arc::default(),
        };
        stub.set("/v2/", Answer::ok("application/json", "{}"));
        let (answers, ended) = (Arc::clone(&stub.answers), Arc::clone(&stub.ended));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let answers = Arc::clone(&answers);
                thread::spawn(move || drop(converse(stream, &answers)));
            }
        });
        Ok(stub)
    }

    /// Answers requests for `path` with `answer` from now on.
    pub fn set(&self, path: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(path.to_owned(), answer);
    }

    /// Serves `image` as `name:1` and returns its reference.
    pub fn serve(&self, name: &str, image: &Image) -> String {
        let manifest = Answer::ok(&image.media_type, image.manifest.clone());
        self.set(&format!("/v2/{name}/manifests/1"), manifest.clone());
        self.set(
            &format!("/v2/{name}/manifests/{}", image.digest()),
            manifest,
        );
        for (digest, blob) in &image.blobs {
            let path = format!("/v2/{name}/blobs/{digest}");
            self.set(&path, Answer::ok("application/octet-stream", blob.clone()));
        }
        format!("{}/{name}:1", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
        drop(TcpStream::connect(self.address));
    }
}

fn converse(
    mut stream: TcpStream,
    answers: &Mutex<BTreeMap<String, Answer>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let answer = answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(path)
        .cloned()
        .unwrap_or_else(|| Answer::status(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
    answer.send(&mut stream, method != "HEAD")
}
