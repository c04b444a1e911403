//! Reads the blobs of a repository.

use hyper::body::Bytes;
use nixply_oci::Digest;
use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode};

use super::pace::Action;
use super::session::{Call, Session};
use super::{answer, location};
use crate::error::{Error, Result};

/// Maximum number of redirects, which lead to the registry's storage.
const MAX_REDIRECTS: usize = 5;

/// Starts to read a blob. Follows redirects, without credentials on other hosts.
pub(super) async fn open(session: &Session, digest: Digest) -> Result<Response> {
    let what = format!("read the blob {digest}");
    let mut url = session.url(&format!("blobs/{digest}"));
    for _ in 0..=MAX_REDIRECTS {
        let call = Call::new(Action::Read, Method::GET, url, &what);
        let answer = session.send(&call, async |request| Ok(request)).await?;
        let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match (answer.status(), place) {
            (status, Some(place)) if status.is_redirection() => {
                url = location::resolved(place, answer.url())?;
            }
            (StatusCode::OK, _) => return Ok(answer),
            _ => return Err(session.refused(&what, answer).await),
        }
    }
    let host = session.repository().host.clone();
    let source = std::io::Error::other(format!("more than {MAX_REDIRECTS} redirects"));
    Err(Error::Answer { host, what, source })
}

/// Reads a small blob, such as a config.
pub(super) async fn small(session: &Session, digest: Digest) -> Result<Bytes> {
    let failed = |source| {
        let (host, what) = (session.repository().host.clone(), format!("read the blob {digest}"));
        Error::Answer { host, what, source }
    };
    let bytes = answer::bytes(open(session, digest).await?).await.map_err(failed)?;
    let found = Digest::of(&bytes);
    match found == digest {
        true => Ok(bytes.into()),
        false => Err(failed(std::io::Error::other(format!("the answer has the digest {found}")))),
    }
}
