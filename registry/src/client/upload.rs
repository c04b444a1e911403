//! Uploads a blob with two requests: one starts a session, the other one sends all bytes (distribution-spec, "POST then PUT"). Small
//! blobs need one request where the registry accepts that ("Single POST").

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nixply_oci::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::pace::Action;
use super::retry::Failure;
use super::session::{Call, Session};
use crate::content::blob_source::Check;
use crate::content::body::SentBytes;
use crate::content::catalog::Blob;
use crate::content::observer::{Observed, Read};
use crate::content::pack_queue::PackQueue;
use crate::error::{Error, Result};

/// Maximum size of a blob that is sent in one request with its digest. A registry that does not accept it ignores the bytes.
pub(super) const SMALL: u64 = 64 << 10;

/// The largest chunk is this number of times the smallest. nginx's default limit is 1 MiB.
const CHUNK_RANGE: u64 = 64;

/// Header with the minimum size of a chunk (distribution-spec, "Pushing a blob in chunks").
const MIN_CHUNK: &str = "oci-chunk-min-length";

/// The effect of an upload on the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// The registry has received the bytes.
    Sent,
    /// The registry has taken the blob from another repository, or had it already.
    Mounted,
}

/// An upload of one blob.
pub(super) struct Upload<'u> {
    pub(super) session: &'u Session,
    pub(super) digest: Digest,
    pub(super) blob: &'u Blob,
    pub(super) queue: &'u Arc<PackQueue>,
    /// A repository of the same registry that probably has the blob.
    pub(super) source: Option<&'u str>,
    /// The error of a layer that could not be packed or read.
    pub(super) failed: &'u Mutex<Option<Error>>,
}

/// How the bytes are sent in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All bytes in the request that ends the session.
    Whole,
    /// All bytes in one PATCH, then the end. Some registries lose the session of a whole PUT.
    Patch,
    /// In chunks of this size with `Content-Range`, then the end. For proxies that limit the size of requests.
    Chunks(u64),
}

impl Upload<'_> {
    /// Uploads the blob. A failed upload is repeated as a whole, in a new session: the registry may have kept some of the bytes in the
    /// old one. The bytes come from the cache or the packed file again.
    pub(super) async fn run(&self) -> Result<Uploaded> {
        let what = format!("upload the blob {}", self.digest);
        let (mut retry, mut way, mut source) = (self.session.retry(), Way::Whole, self.source);
        let mut check = Check::Receiver;
        if source.is_none() {
            // Pack before the session starts: registries end idle sessions.
            self.wait_for_first_byte().await?;
        }
        loop {
            let started = self.start(source, &what, check).await?;
            let url = match started {
                Started::Done(uploaded) => return Ok(uploaded),
                Started::Session(url, headers) => (url, headers),
            };
            if source.take().is_some() {
                // Only now is it known that the bytes are needed.
                self.wait_for_first_byte().await?;
            }
            match self.send(way, url, &what, check).await {
                Ok(done) if is_accepted(&done) => return Ok(Uploaded::Sent),
                Ok(done) => {
                    let status = done.status();
                    let error = self.session.refused(&what, done).await;
                    if check == Check::Receiver && is_wrong_digest(&error) {
                        // The cache or a file has changed. With a check, the layer is packed again, or the error names the file.
                        check = Check::Sender;
                        continue;
                    }
                    let next = self.next_way(way, status, &error, retry.tries());
                    match next {
                        Some(next) if next != way => way = next,
                        Some(_) => self.session.pause(&mut retry, Failure::Passing(error, None)).await?,
                        None => return Err(error),
                    }
                }
                Err(failure) => {
                    if let Some(error) = take(self.failed) {
                        // Another try would not help.
                        return Err(error);
                    }
                    let is_cut_off = matches!(failure, Failure::Passing(Error::Request { .. }, _));
                    if way == Way::Whole && is_cut_off && retry.tries() > 2 {
                        way = Way::Patch;
                    }
                    self.session.pause(&mut retry, failure).await?;
                }
            }
        }
    }

    async fn wait_for_first_byte(&self) -> Result<()> {
        self.blob.wait_for_first_byte(self.queue).await?;
        take(self.failed).map_or(Ok(()), Err)
    }

    /// Returns how to repeat an upload that the registry refused, or `None` if a repetition cannot help.
    fn next_way(&self, way: Way, status: StatusCode, error: &Error, tries: u32) -> Option<Way> {
        let code = if let Error::Refused { code: Some(code), .. } = error { code } else { "" };
        match (way, status) {
            // Azure's limit is only that of a PUT.
            (Way::Whole, StatusCode::PAYLOAD_TOO_LARGE) => Some(Way::Patch),
            (Way::Patch, StatusCode::PAYLOAD_TOO_LARGE) => {
                Some(Way::Chunks(self.session.limits().chunk.min(self.blob.size().div_ceil(2))))
            }
            (Way::Chunks(chunk), StatusCode::PAYLOAD_TOO_LARGE)
                if chunk > self.session.limits().chunk / CHUNK_RANGE =>
            {
                Some(Way::Chunks(chunk / 2))
            }
            // Registries with several replicas lose sessions. Artifactory of 2019 did so with every whole PUT.
            (Way::Whole, StatusCode::NOT_FOUND) if tries > 2 => Some(Way::Patch),
            (way, StatusCode::NOT_FOUND) if code != "NAME_UNKNOWN" => Some(way),
            (way, StatusCode::BAD_REQUEST) if code.starts_with("BLOB_UPLOAD_") => Some(way),
            _ => None,
        }
    }

    /// Starts a session, unless the registry takes the blob at once.
    async fn start(&self, source: Option<&str>, what: &str, check: Check) -> Result<Started> {
        let size = self.blob.size();
        let source = source.filter(|_| self.session.takes_mounts.load(Ordering::Relaxed));
        let single =
            source.is_none() && size <= SMALL && self.session.takes_single_post.load(Ordering::Relaxed);
        let mut url = self.session.url("blobs/uploads/");
        if single {
            url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        } else if let Some(source) = source {
            url.query_pairs_mut().append_pair("mount", &self.digest.to_string()).append_pair("from", source);
        }
        let call = Call::new(Action::Start, Method::POST, url, what);
        let is_optional = single || source.is_some();
        let retry = self.session.retry();
        let retry = if is_optional { retry.optional() } else { retry };
        let sent = self.session.send_within(retry, &call, async |request| match single {
            true => self.with_bytes(check, request, 0..size, None).await,
            false => Ok(request.header(CONTENT_LENGTH, 0)),
        });
        let answer = match sent.await {
            Err(error) if is_optional => {
                if single {
                    self.session.takes_single_post.store(false, Ordering::Relaxed);
                } else if let Error::Unauthorized { .. } = error {
                    // The user may not read the source.
                    self.session.takes_mounts.store(false, Ordering::Relaxed);
                }
                return Box::pin(self.start(None, what, check)).await;
            }
            answer => answer?,
        };
        match answer.status() {
            StatusCode::ACCEPTED => {
                if single {
                    self.session.takes_single_post.store(false, Ordering::Relaxed);
                }
                let place = self.session.place(&answer)?;
                Ok(Started::Session(place, answer.headers().clone()))
            }
            status if status.is_success() && single => Ok(Started::Done(Uploaded::Sent)),
            status if status.is_success() && source.is_some() => Ok(Started::Done(Uploaded::Mounted)),
            // A registry may refuse what it does not know.
            _ if single => {
                self.session.takes_single_post.store(false, Ordering::Relaxed);
                Box::pin(self.start(None, what, check)).await
            }
            _ if source.is_some() => Box::pin(self.start(None, what, check)).await,
            _ => Err(self.session.refused(what, answer).await),
        }
    }

    /// Sends all bytes in a session, and ends it.
    async fn send(
        &self,
        way: Way,
        (url, headers): (Url, HeaderMap),
        what: &str,
        check: Check,
    ) -> Result<Response, Failure> {
        let size = self.blob.size();
        let keep_authorization = async |bytes: u64| {
            let estimate = Duration::from_secs(bytes / self.session.limits().assumed_speed);
            self.session.keep_authorization_for(estimate).await.map_err(Failure::Lasting)
        };
        let sent = Arc::<SentBytes>::default();
        let call = |method, url| {
            let action = Action::Upload;
            Call { action, method, url, what, sent: Some(sent.clone()) }
        };
        let mut url = url;
        match way {
            Way::Whole => {
                keep_authorization(size).await?;
                let call = call(Method::PUT, self.with_digest(url));
                let with_bytes = async |request| self.with_bytes(check, request, 0..size, Some(&sent)).await;
                return self.session.try_once(&call, &with_bytes).await;
            }
            Way::Patch => {
                keep_authorization(size).await?;
                let call = call(Method::PATCH, url);
                let with_bytes = async |request| self.with_bytes(check, request, 0..size, Some(&sent)).await;
                let answer = self.session.try_once(&call, &with_bytes).await?;
                if !is_accepted(&answer) {
                    return Ok(answer);
                }
                url = self.session.place(&answer).map_err(Failure::Lasting)?;
            }
            Way::Chunks(chunk) => {
                let least = headers.get(MIN_CHUNK).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
                let chunk = chunk.max(least.unwrap_or(0));
                let mut at = 0;
                while at < size {
                    let end = (at + chunk).min(size);
                    keep_authorization(end - at).await?;
                    let call = call(Method::PATCH, url);
                    let with_bytes = async |request: RequestBuilder| {
                        let request = request.header("Content-Range", format!("{at}-{}", end - 1));
                        self.with_bytes(check, request, at..end, Some(&sent)).await
                    };
                    let answer = self.session.try_once(&call, &with_bytes).await?;
                    if !is_accepted(&answer) {
                        return Ok(answer);
                    }
                    url = self.session.place(&answer).map_err(Failure::Lasting)?;
                    // The registry says how much it has. It must be all that was sent.
                    at = end_of_range(&answer).unwrap_or(end);
                    if at != end {
                        let (host, what) = (self.session.repository().host.clone(), what.to_owned());
                        let error = Error::LostChunk { host, what, sent: end, kept: at };
                        return Err(Failure::Passing(error, None));
                    }
                }
            }
        }
        let call = call(Method::PUT, self.with_digest(url));
        let empty = async |request: RequestBuilder| Ok(request.header(CONTENT_LENGTH, 0));
        self.session.try_once(&call, &empty).await
    }

    fn with_digest(&self, mut url: Url) -> Url {
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        url
    }

    /// Adds a part of the blob as the body of a request.
    async fn with_bytes(
        &self,
        check: Check,
        request: RequestBuilder,
        part: std::ops::Range<u64>,
        sent: Option<&Arc<SentBytes>>,
    ) -> Result<RequestBuilder> {
        let (queue, digest, size) = (self.queue, self.digest, self.blob.size());
        let length = part.end - part.start;
        let read = self.blob.layer_index().map(|layer| Read { layer, digest, size, part: part.clone() });
        let observed = read.map(|read| Observed::begin(&queue.observer, read));
        let mut body = self.blob.body(part, check, queue).await?.counted(queue, digest).observed(observed);
        if let Some(sent) = sent {
            body = body.added_to(sent);
        }
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
        Ok(request.body(Body::wrap(body)))
    }
}

/// The answer to the start of an upload.
enum Started {
    /// The registry has the blob.
    Done(Uploaded),
    /// The registry expects the bytes here. Its answer has these headers.
    Session(Url, HeaderMap),
}

/// Returns whether the registry has received other bytes than those of the digest.
fn is_wrong_digest(error: &Error) -> bool {
    matches!(error, Error::Refused { code: Some(code), .. } if code == "DIGEST_INVALID")
}

/// Returns whether the registry has taken the bytes. Some registries answer with 200 or 204 where the specification requires 201, and
/// Amazon ECR with 201 where it requires 202.
fn is_accepted(answer: &Response) -> bool {
    let status = answer.status();
    matches!(status, StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::ACCEPTED)
}

/// Returns the number of bytes that the registry has in a session, from the header `Range: 0-LAST`.
fn end_of_range(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(RANGE)?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(last + 1)
}

/// Returns whether the repository has a blob.
pub(super) async fn exists(session: &Session, digest: Digest) -> Result<bool> {
    let what = format!("look up the blob {digest}");
    let url = session.url(&format!("blobs/{digest}"));
    let call = Call::new(Action::Read, Method::HEAD, url, &what);
    let answer = session.send(&call, async |request| Ok(request)).await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(false),
        // A redirect leads to the bytes.
        status if status.is_success() || status.is_redirection() => Ok(true),
        _ => Err(session.refused(&what, answer).await),
    }
}

/// Takes the error of a layer that could not be packed or read.
pub(super) fn take(failed: &Mutex<Option<Error>>) -> Option<Error> {
    failed.lock().unwrap_or_else(PoisonError::into_inner).take()
}
