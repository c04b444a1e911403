//! Uploads a blob with two requests: one starts a session, the other one sends all bytes (distribution-spec, "POST then PUT").

use std::sync::Arc;

use nixply_oci::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, RequestBuilder, StatusCode, Url};

use super::location;
use super::session::{Retry, Session};
use crate::content::catalog::Blob;
use crate::content::observer::{Observed, Read};
use crate::content::pack_queue::PackQueue;
use crate::error::{Error, Result};

/// Uploads a blob. A failed upload is repeated as a whole, in a new session: the registry may have kept some of the bytes in the old
/// one. The bytes come from the cache or the packed file again.
pub(super) async fn blob(
    session: &Session,
    digest: Digest,
    blob: &Blob,
    queue: &Arc<PackQueue>,
) -> Result<()> {
    let what = format!("upload the blob {digest}");
    let size = blob.size();
    let mut retry = Retry::new();
    loop {
        let mut url = start(session, &what).await?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let with_bytes = async |request: RequestBuilder| {
            let read = blob.layer_index().map(|layer| Read { layer, digest, size, part: 0..size });
            let observed = read.map(|read| Observed::begin(&queue.observer, read));
            let body = blob.body(0..size, queue).await?.counted(queue, digest).observed(observed);
            let request =
                request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size);
            Ok(request.body(Body::wrap(body)))
        };
        match session.try_once(&Method::PUT, &url, &what, &with_bytes).await {
            Ok(done) => match done.status() {
                // Some registries answer with 200 or 204.
                StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => {
                    return Ok(());
                }
                _ => return Err(session.refused(&what, done).await),
            },
            Err(failure) => retry.after(failure, session).await?,
        }
    }
}

/// Starts a session, and returns the URL for its bytes.
async fn start(session: &Session, what: &str) -> Result<Url> {
    let answer = session
        .send(Method::POST, session.url("blobs/uploads/"), what, async |request| {
            Ok(request.header(CONTENT_LENGTH, 0))
        })
        .await?;
    if answer.status() != StatusCode::ACCEPTED {
        return Err(session.refused(what, answer).await);
    }
    let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if place.is_empty() {
        let why = "the registry named no place for the upload";
        return Err(Error::Location { location: String::new(), host: session.reference().host.clone(), why });
    }
    location::of_upload(place, answer.url())
}

/// Returns whether the repository has a blob.
pub(super) async fn exists(session: &Session, digest: Digest) -> Result<bool> {
    let what = format!("look up the blob {digest}");
    let url = session.url(&format!("blobs/{digest}"));
    let answer = session.send(Method::HEAD, url, &what, async |request| Ok(request)).await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(false),
        // A redirect leads to the bytes.
        status if status.is_success() || status.is_redirection() => Ok(true),
        _ => Err(session.refused(&what, answer).await),
    }
}
