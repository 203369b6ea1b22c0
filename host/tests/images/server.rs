//! A registry of a few lines: serves one image correctly, but for what a test
//! makes it do wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::TestImage;

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    pub(crate) fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }

    /// The first byte asked for.
    pub(crate) fn offset(&self) -> usize {
        let range = self.header("range").unwrap_or("bytes=0-");
        let start = range.trim_start_matches("bytes=").trim_end_matches('-');
        start.parse().unwrap()
    }
}

/// What it gets.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Without saying how long it is.
    Chunked(Bytes),
    /// Promises `length`, sends these bytes and hangs up.
    Cut(Bytes, usize),
    /// Promises `length`, sends these bytes and falls silent.
    Stall(Bytes, usize),
    /// Never ends.
    Endless,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, Body::Whole(body.into()))
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, Body::Whole(Bytes::new()))
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// `bytes`, or the range of them that was asked for.
    pub(crate) fn content(bytes: &Bytes, request: &Request) -> Self {
        let offset = request.offset();
        if offset == 0 {
            return Self::ok(bytes.clone());
        }
        let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
        let body = Body::Whole(bytes.slice(offset..));
        Self::new(206, body).with("Content-Range", range)
    }
}

type Trick = Box<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

struct Site {
    image: TestImage,
    trick: Mutex<Option<Trick>>,
    seen: Mutex<Vec<Request>>,
}

/// A running registry; ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    site: Arc<Site>,
}

impl Server {
    /// Serves `image` under every name.
    pub(crate) async fn serving(image: &TestImage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            site: Arc::new(Site {
                image: image.clone(),
                trick: Mutex::new(None),
                seen: Mutex::default(),
            }),
        };
        let site = Arc::clone(&server.site);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let site = Arc::clone(&site);
                tokio::spawn(async move {
                    // The client hangs up when it has seen enough.
                    let _ = converse(&site, stream).await;
                });
            }
        });
        server
    }

    /// From now on, `trick` answers what it wants to.
    pub(crate) fn play(&self, trick: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        *self.site.trick.lock().unwrap() = Some(Box::new(trick));
    }

    /// No more tricks.
    pub(crate) fn behave(&self) {
        *self.site.trick.lock().unwrap() = None;
    }

    pub(crate) fn reference(&self, name: &str) -> isolazi::image::Reference {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.site.seen.lock().unwrap().clone()
    }
}

impl Site {
    fn answer(&self, request: &Request) -> Answer {
        self.seen.lock().unwrap().push(request.clone());
        let trick = self.trick.lock().unwrap();
        let tricked = trick.as_ref().and_then(|trick| trick(request));
        tricked.unwrap_or_else(|| self.honest(request))
    }

    fn honest(&self, request: &Request) -> Answer {
        let last = request.path.rsplit('/').next().unwrap();
        if request.is_manifest() && !last.starts_with("sha256:") {
            return Answer::ok(self.image.manifest.clone());
        }
        match self.image.blobs.get(last) {
            Some(bytes) => Answer::content(bytes, request),
            None => Answer::status(404),
        }
    }
}

async fn converse(site: &Site, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await? {
        let answer = site.answer(&request);
        if !send(&mut stream, answer).await? {
            break;
        }
    }
    Ok(())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request {
        method,
        path,
        headers,
    }))
}

/// Whether the connection can be used again.
async fn send(stream: &mut BufReader<TcpStream>, answer: Answer) -> std::io::Result<bool> {
    let length = match &answer.body {
        Body::Whole(bytes) => Some(bytes.len()),
        Body::Cut(_, length) | Body::Stall(_, length) => Some(*length),
        Body::Chunked(_) | Body::Endless => None,
    };
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &match length {
        Some(length) => format!("Content-Length: {length}\r\n\r\n"),
        None => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    stream.write_all(head.as_bytes()).await?;
    match answer.body {
        Body::Whole(bytes) => stream.write_all(&bytes).await?,
        Body::Chunked(bytes) => {
            send_chunk(stream, &bytes).await?;
            stream.write_all(b"0\r\n\r\n").await?;
        }
        Body::Cut(bytes, _) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            return Ok(false);
        }
        Body::Stall(bytes, _) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Body::Endless => loop {
            send_chunk(stream, &[b' '; 65536]).await?;
        },
    }
    stream.flush().await?;
    Ok(true)
}

async fn send_chunk(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    let head = format!("{:x}\r\n", bytes.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.write_all(b"\r\n").await
}
