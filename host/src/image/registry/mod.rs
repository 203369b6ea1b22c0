//! One repository of a registry, over HTTP (OCI distribution-spec, "Pull" and
//! "Push").
//!
//! oci-client does the token dance of anonymous users. Its other requests are
//! not used: they read manifests and error pages of any length into memory, and
//! panic on a token that is no HTTP header.

mod auth;
mod authorities;
mod fault;
mod login;
mod request;
mod token;
mod upload;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Body as RequestBody, Client, Method, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::credentials::Credentials;
use super::error::ImageError;
use super::manifest::{self, MAX_MANIFEST_BYTES};
use super::reference::{DEFAULT_REGISTRY, Reference, host_of, is_loopback};
use super::text::escape;
use fault::Fault;
use request::{Request, Target};
use token::Challenge;

pub use authorities::{Authorities, AuthorityError};
pub use login::check_login;

/// Docker's hub answers here, whatever its images are called.
const HUB_HOST: &str = "registry-1.docker.io";
const USER_AGENT: &str = concat!("isolazi/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 5;
/// Enough of an error page to find its code.
const MAX_ERROR_PAGE: u64 = 64 << 10;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Registries (`HOST` or `HOST:PORT`) that plain http is good enough for,
    /// besides this computer.
    pub insecure: Vec<String>,
    /// For TCP and TLS.
    pub connect_timeout: Duration,
    /// Longest silence in an answer.
    pub stall_timeout: Duration,
    /// How often a broken download is continued before it makes progress.
    pub retries: u32,
    /// Pause before the first of these; doubles with each.
    pub backoff: Duration,
    /// Where registries' images may be had as well, by registry; asked first,
    /// in order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Certificate authorities to trust besides the system's.
    pub authorities: Authorities,
    /// The user's logins; `None` to be nobody.
    pub credentials: Option<Credentials>,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retries: 4,
            backoff: Duration::from_millis(250),
            mirrors: BTreeMap::new(),
            authorities: Authorities::default(),
            credentials: None,
        }
    }
}

impl NetworkOptions {
    /// Whether `registry` may be reached over plain http.
    fn allows_plain(&self, registry: &str) -> bool {
        let listed = |entry: &String| entry == registry || entry == host_of(registry);
        is_loopback(registry) || self.insecure.iter().any(listed)
    }
}

/// What a token has to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// A repository that images are pulled from or pushed to.
#[derive(Debug)]
pub(crate) struct Registry {
    /// As in references.
    name: String,
    /// As in references, for errors.
    image: String,
    /// Where it is: as in references, but for Docker's hub.
    host: String,
    repository: String,
    /// Where plain http is good enough it is tried first.
    tls: AtomicBool,
    /// It has answered, so there is no doubt left about TLS.
    settled: AtomicBool,
    client: Client,
    network: NetworkOptions,
    access: Access,
    /// `Authorization` of requests to the registry, once it asked for one.
    token: Mutex<Option<HeaderValue>>,
}

/// The body of a blob, from byte `start` on.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) start: u64,
    response: Response,
    registry: String,
    stall_timeout: Duration,
}

/// What a request is for; decides what a failure means.
#[derive(Debug, Clone, Copy)]
enum Purpose<'a> {
    Manifest,
    Blob(&'a str),
    /// What is being sent.
    Push(&'a str),
}

impl Registry {
    /// Prepares to pull from the registry of `reference`. Connects to nothing yet.
    pub(crate) fn new(reference: &Reference, network: &NetworkOptions) -> Result<Self, ImageError> {
        Self::at(reference.registry(), reference, network, Access::Pull)
    }

    /// Prepares to talk to the registry `name` about what `reference` names.
    pub(crate) fn at(
        name: &str,
        reference: &Reference,
        network: &NetworkOptions,
        access: Access,
    ) -> Result<Self, ImageError> {
        let plain = network.allows_plain(name);
        let host = if name == DEFAULT_REGISTRY {
            HUB_HOST
        } else {
            name
        };
        Ok(Self {
            name: name.to_owned(),
            image: reference.to_string(),
            host: host.to_owned(),
            repository: reference.repository().to_owned(),
            tls: AtomicBool::new(!plain),
            settled: AtomicBool::new(!plain),
            client: client(name, plain, network)?,
            network: network.clone(),
            access,
            token: Mutex::new(None),
        })
    }

    /// The bytes of a manifest or index by tag or digest; nothing about them is
    /// checked but their length.
    pub(crate) async fn manifest(&self, tag_or_digest: &str) -> Result<Vec<u8>, ImageError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        let path = format!("manifests/{tag_or_digest}");
        let mut response = self.get(&path, headers, Purpose::Manifest).await?;
        let too_large = || ImageError::TooLarge {
            what: format!("the manifest of '{}'", self.image),
            limit: MAX_MANIFEST_BYTES,
        };
        self.read(&mut response, MAX_MANIFEST_BYTES)
            .await?
            .ok_or_else(too_large)
    }

    /// The bytes of a blob of `size` from `offset` on; or from its start, where
    /// the registry knows no ranges. `what` names it in errors.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        what: &str,
        offset: u64,
        size: u64,
    ) -> Result<Body, ImageError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, ascii(&format!("bytes={offset}-")));
        }
        let path = format!("blobs/{digest}");
        let response = self.get(&path, headers, Purpose::Blob(what)).await?;
        let (start, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_range(&response).unwrap_or((u64::MAX, None)),
            _ => (0, response.content_length()),
        };
        if start > offset {
            return Err(ImageError::Malformed {
                what: format!("the answer of registry '{}'", self.name),
                reason: "it is not the range that was asked for".to_owned(),
            });
        }
        match total {
            Some(total) if total != size => Err(ImageError::wrong_size(what, size, total)),
            _ => Ok(Body {
                start,
                response,
                registry: self.name.clone(),
                stall_timeout: self.network.stall_timeout,
            }),
        }
    }

    async fn get(
        &self,
        path: &str,
        headers: HeaderMap,
        purpose: Purpose<'_>,
    ) -> Result<Response, ImageError> {
        let request = Request {
            headers,
            ..Request::new(Method::GET, path)
        };
        let response = self.request(&request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(self.refusal(response, purpose).await),
        }
    }

    /// A request that is repeated with a token where the registry wants one,
    /// and over TLS where it speaks that after all.
    async fn request(&self, request: &Request<'_>) -> Result<Response, ImageError> {
        let token = self.token.lock().await.clone();
        let mut response = self.send(request, token.clone()).await?;
        if response.status() == StatusCode::BAD_REQUEST && self.turns_to_tls(&mut response).await {
            response = self.send(request, token.clone()).await?;
        }
        self.settled.store(true, Ordering::Relaxed);
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = Challenge::of(&response);
            let fresh = self.login(token, challenge.as_ref()).await?;
            response = self.send(request, fresh).await?;
        }
        Ok(response)
    }

    /// Whether the answer to a plain request is a web server's hint that it
    /// wants TLS (Go's and nginx's both name HTTPS); it gets that from now on.
    async fn turns_to_tls(&self, response: &mut Response) -> bool {
        if self.settled.load(Ordering::Relaxed) {
            return false;
        }
        let page = self.read(response, MAX_ERROR_PAGE).await;
        let page = page.ok().flatten().unwrap_or_default();
        let hinted = String::from_utf8_lossy(&page).contains("HTTPS");
        if hinted {
            self.tls.store(true, Ordering::Relaxed);
        }
        self.settled.store(true, Ordering::Relaxed);
        hinted
    }

    fn base(&self) -> String {
        let scheme = match self.tls.load(Ordering::Relaxed) {
            true => "https",
            false => "http",
        };
        format!("{scheme}://{}/v2/", self.host)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{}/{path}", self.base(), self.repository)
    }

    async fn send(
        &self,
        request: &Request<'_>,
        token: Option<HeaderValue>,
    ) -> Result<Response, ImageError> {
        let url = match &request.target {
            Target::Path(path) => self.url(path),
            Target::Root => self.base(),
            Target::Location(url) => url.to_string(),
        };
        let mut headers = request.headers.clone();
        // Where an upload goes is the registry's to say; who the user is stays
        // between them and the registry.
        if let Some(token) = token
            && request.target.is_at(&self.base())
        {
            headers.insert(AUTHORIZATION, token);
        }
        let sending = self
            .client
            .request(request.method.clone(), url)
            .headers(headers)
            .body(RequestBody::from(request.body.clone()))
            .send();
        let patience = request.patience.unwrap_or(self.network.stall_timeout);
        match timeout(patience, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Fault::of(&error).into_error(&self.name)),
            Err(_) => Err(stalled(&self.name, patience)),
        }
    }

    /// What a status other than success means.
    async fn refusal(&self, mut response: Response, purpose: Purpose<'_>) -> ImageError {
        let status = response.status();
        let not_found = || ImageError::NotFound(self.image.clone());
        match (status, purpose) {
            (StatusCode::TOO_MANY_REQUESTS, Purpose::Push(_)) => {
                ImageError::RateLimited(self.name.clone())
            }
            (_, Purpose::Push(what)) => self.rejection(response, what).await,
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => not_found(),
            (StatusCode::TOO_MANY_REQUESTS, _) => ImageError::RateLimited(self.name.clone()),
            (StatusCode::NOT_FOUND, Purpose::Blob(what)) => ImageError::BlobUnknown {
                what: what.to_owned(),
                image: self.image.clone(),
                registry: self.name.clone(),
            },
            (StatusCode::NOT_FOUND, Purpose::Manifest) => {
                let page = self.read(&mut response, MAX_ERROR_PAGE).await;
                match fault::is_name_unknown(&page.ok().flatten().unwrap_or_default()) {
                    true => not_found(),
                    false => ImageError::UnknownTag(self.image.clone()),
                }
            }
            _ => ImageError::Status {
                registry: self.name.clone(),
                status: status.as_u16(),
            },
        }
    }

    /// A whole body, or `None` where it exceeds `limit`.
    async fn read(
        &self,
        response: &mut Response,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        if response.content_length().is_some_and(|it| it > limit) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = next(response, &self.name, self.network.stall_timeout).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }
}

impl Body {
    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ImageError> {
        next(&mut self.response, &self.registry, self.stall_timeout).await
    }
}

async fn next(
    response: &mut Response,
    registry: &str,
    patience: Duration,
) -> Result<Option<Bytes>, ImageError> {
    match timeout(patience, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(Fault::of(&error).into_error(registry)),
        Err(_) => Err(stalled(registry, patience)),
    }
}

fn stalled(registry: &str, patience: Duration) -> ImageError {
    ImageError::Stalled {
        registry: registry.to_owned(),
        seconds: patience.as_secs(),
    }
}

/// A header value of characters that are known to be harmless.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// `Content-Range: bytes START-END/TOTAL`; the total may be `*`.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// An HTTP client for one registry. Certificates are checked against the
/// system's authorities, or those of `SSL_CERT_FILE`.
fn client(registry: &str, plain: bool, network: &NetworkOptions) -> Result<Client, ImageError> {
    install_tls_provider();
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(network.connect_timeout)
        .redirect(redirects(plain, network.clone()))
        .tls_certs_merge(network.authorities.trusted());
    if is_loopback(registry) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| Fault::of(&error).into_error(registry))
}

/// ring, which builds everywhere without a C++ compiler or CMake. An error
/// means that the process has one already.
pub(crate) fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Follows a few redirects, to plain http only where the registry itself may
/// be reached so: a redirect must not weaken what the user relies on.
/// (reqwest drops `Authorization` when the host or port changes.)
fn redirects(plain: bool, network: NetworkOptions) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        let target = authority(attempt.url());
        let safe = match attempt.url().scheme() {
            "https" => true,
            "http" => plain && network.allows_plain(&target),
            _ => false,
        };
        match safe && attempt.previous().len() <= MAX_REDIRECTS {
            true => attempt.follow(),
            false => {
                let url = escape(&format!("{}://{target}", attempt.url().scheme()));
                attempt.error(fault::UnsafeRedirect(url))
            }
        }
    })
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(reference: &str, network: &NetworkOptions) -> Registry {
        Registry::new(&Reference::parse(reference).unwrap(), network).unwrap()
    }

    #[test]
    fn plain_http_is_for_this_computer_and_what_the_user_listed() {
        let network = NetworkOptions {
            insecure: vec!["lan.example:5000".to_owned(), "any.example".to_owned()],
            ..NetworkOptions::default()
        };
        for (reference, base) in [
            ("alpine", "https://registry-1.docker.io/v2/library/alpine"),
            ("ghcr.io/o/r", "https://ghcr.io/v2/o/r"),
            ("localhost:5000/x", "http://localhost:5000/v2/x"),
            ("[::1]:5000/x", "http://[::1]:5000/v2/x"),
            ("lan.example:5000/x", "http://lan.example:5000/v2/x"),
            ("lan.example:5001/x", "https://lan.example:5001/v2/x"),
            ("any.example:9/x", "http://any.example:9/v2/x"),
        ] {
            assert_eq!(registry(reference, &network).url("x"), format!("{base}/x"));
        }
    }
}
