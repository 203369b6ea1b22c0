//! Sending blobs and manifests (distribution-spec, "Push").
//!
//! ```text
//!  HEAD blob ─► there? ─► done
//!     └► POST uploads ─► PATCH all of it ─► PUT its digest
//! ```
//!
//! This is what Docker does, so every registry knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use isolazi_protocol::Digest;
use oci_client::errors::OciEnvelope;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body as RequestBody, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::super::error::ImageError;
use super::super::text::escape;
use super::fault::Fault;
use super::request::{Request, Target};
use super::{MAX_ERROR_PAGE, Purpose, Registry, ascii, stalled};

/// A registry may read a whole blob again before it believes its digest.
const COMMIT_PATIENCE: Duration = Duration::from_secs(600);
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl Registry {
    /// Whether the repository has a blob already.
    pub(crate) async fn has_blob(&self, digest: &Digest, what: &str) -> Result<bool, ImageError> {
        let path = format!("blobs/{digest}");
        let response = self.request(&Request::new(Method::HEAD, &path)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(response, Purpose::Push(what)).await),
        }
    }

    /// Starts an upload; returns where its bytes go.
    pub(crate) async fn start_upload(&self, what: &str) -> Result<Url, ImageError> {
        let request = Request::new(Method::POST, "blobs/uploads/");
        let response = self.request(&request).await?;
        self.accepted(response, StatusCode::ACCEPTED, what).await
    }

    /// Sends all bytes of a blob; returns where its digest goes. `progress` is
    /// told how many are sent.
    pub(crate) async fn send_bytes(
        &self,
        location: &Url,
        chunks: mpsc::Receiver<Bytes>,
        size: u64,
        what: &str,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Url, ImageError> {
        let sent = Arc::new(AtomicU64::new(0));
        let state = (chunks, Arc::clone(&sent), Arc::new(progress));
        let body = stream::unfold(state, async |(mut chunks, sent, progress)| {
            let chunk: Bytes = chunks.recv().await?;
            let length = chunk.len() as u64;
            progress(sent.fetch_add(length, Ordering::Relaxed) + length);
            Some((Ok::<_, std::io::Error>(chunk), (chunks, sent, progress)))
        });
        let token = self.token.lock().await.clone();
        let target = Target::Location(location);
        let mut request = self
            .client
            .patch(location.clone())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, size)
            .body(RequestBody::wrap_stream(body));
        if let Some(token) = token.filter(|_| target.is_at(&self.base())) {
            request = request.header(reqwest::header::AUTHORIZATION, token);
        }
        let response = tokio::select! {
            response = request.send() => response.map_err(|it| Fault::of(&it).into_error(&self.name))?,
            () = self.standstill(&sent, size) => return Err(stalled(&self.name, self.network.stall_timeout)),
        };
        match response.status() {
            // Some registries answer so although nothing was created yet.
            StatusCode::CREATED | StatusCode::NO_CONTENT => {
                let status = response.status();
                self.accepted(response, status, what).await
            }
            _ => self.accepted(response, StatusCode::ACCEPTED, what).await,
        }
    }

    /// Ends when nothing more has been sent for too long.
    async fn standstill(&self, sent: &AtomicU64, size: u64) {
        let mut before = u64::MAX;
        loop {
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
            // With all of it the registry may have some work to do.
            tokio::time::sleep(match now >= size {
                true => COMMIT_PATIENCE,
                false => self.network.stall_timeout,
            })
            .await;
        }
    }

    /// Says what the bytes that were sent should have been.
    pub(crate) async fn finish_upload(
        &self,
        location: &Url,
        digest: &Digest,
        what: &str,
    ) -> Result<(), ImageError> {
        let mut location = location.clone();
        location
            .query_pairs_mut()
            .append_pair("digest", digest.as_str());
        let request = Request {
            patience: Some(COMMIT_PATIENCE),
            ..Request::to(Method::PUT, Target::Location(&location))
        };
        let response = self.request(&request).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refusal(response, Purpose::Push(what)).await),
        }
    }

    /// Puts a manifest in place, whose blobs are all there.
    pub(crate) async fn put_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<(), ImageError> {
        let path = format!("manifests/{tag_or_digest}");
        let mut request = Request::new(Method::PUT, &path);
        request.headers.insert(CONTENT_TYPE, ascii(media_type));
        request.body = bytes.into();
        request.patience = Some(COMMIT_PATIENCE);
        let response = self.request(&request).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            _ => Err(self.refusal(response, Purpose::Push("the manifest")).await),
        }
    }

    /// Where an upload goes on, if the answer is the one hoped for.
    async fn accepted(
        &self,
        response: Response,
        expected: StatusCode,
        what: &str,
    ) -> Result<Url, ImageError> {
        if response.status() != expected {
            return Err(self.refusal(response, Purpose::Push(what)).await);
        }
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|it| it.to_str().ok());
        let joined = location.and_then(|it| response.url().join(it).ok());
        let url = joined.ok_or_else(|| ImageError::Malformed {
            what: format!("the answer of registry '{}'", self.name),
            reason: "it does not say where the upload goes on".to_owned(),
        })?;
        match url.scheme() {
            "https" => Ok(url),
            // What is not secret may be sent as the registry itself is spoken to.
            "http" if self.network.allows_plain(&super::authority(&url)) => Ok(url),
            scheme => Err(ImageError::Redirect {
                registry: self.name.clone(),
                target: escape(&format!("{scheme}://{}", super::authority(&url))),
            }),
        }
    }

    /// Why a registry does not take what it is sent.
    pub(super) async fn rejection(&self, mut response: Response, what: &str) -> ImageError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return ImageError::Denied {
                registry: self.name.clone(),
                image: self.image.clone(),
            };
        }
        if status.is_server_error() {
            return ImageError::Status {
                registry: self.name.clone(),
                status: status.as_u16(),
            };
        }
        let page = self.read(&mut response, MAX_ERROR_PAGE).await;
        let page = page.ok().flatten().unwrap_or_default();
        let said = serde_json::from_slice::<OciEnvelope>(&page)
            .ok()
            .and_then(|envelope| Some(envelope.errors.into_iter().next()?.message));
        ImageError::Rejected {
            registry: self.name.clone(),
            what: what.to_owned(),
            status: status.as_u16(),
            reason: escape(said.unwrap_or_default().trim()),
        }
    }
}
