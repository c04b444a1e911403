//! Reads the blobs of a repository.

use std::ops::Range;

use hyper::body::Bytes;
use nixply_oci::Digest;
use reqwest::header::{CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

use super::pace::Action;
use super::retry::Failure;
use super::session::{Call, Session};
use super::{answer, location};
use crate::error::{Error, Result};

/// Maximum number of redirects, which lead to the registry's storage.
const MAX_REDIRECTS: usize = 5;

/// Maximum number of reads of a blob that the registry does not find, although a manifest names it.
const UNKNOWN_TRIES: u32 = 4;

/// An answer with bytes of a blob.
pub(super) enum Opened {
    /// The requested part.
    Part(Response),
    /// The whole blob.
    Whole(Response),
}

/// Starts to read a blob, or a part of it. Follows redirects, without credentials on other hosts.
pub(super) async fn open(session: &Session, digest: Digest, part: Option<Range<u64>>) -> Result<Opened> {
    let what = format!("read the blob {digest}");
    let mut url = session.url(&format!("blobs/{digest}"));
    for _ in 0..=MAX_REDIRECTS {
        let call = Call::new(Action::Read, Method::GET, url, &what);
        let with_range = async |request: RequestBuilder| {
            Ok(match &part {
                Some(part) => request.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1)),
                None => request,
            })
        };
        let answer = session.send(&call, with_range).await?;
        let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match (answer.status(), place) {
            (status, Some(place)) if status.is_redirection() => {
                url = location::resolved(place, answer.url())?;
            }
            (StatusCode::OK, _) => return Ok(Opened::Whole(answer)),
            (StatusCode::PARTIAL_CONTENT, _) if part.as_ref().is_some_and(|part| is_part(&answer, part)) => {
                return Ok(Opened::Part(answer));
            }
            _ => return Err(session.refused(&what, answer).await),
        }
    }
    let host = session.repository().host.clone();
    let source = std::io::Error::other(format!("more than {MAX_REDIRECTS} redirects"));
    Err(Error::Answer { host, what, source })
}

/// Returns whether an answer has the requested part, by its header `Content-Range: bytes FIRST-LAST/SIZE`.
fn is_part(answer: &Response, part: &Range<u64>) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {}-{}/", part.start, part.end - 1)))
}

/// Reads a small blob that a manifest names, such as a config, of at most this many bytes.
pub(super) async fn small(session: &Session, digest: Digest, most: usize) -> Result<Bytes> {
    let failed = |source| {
        let (host, what) = (session.repository().host.clone(), format!("read the blob {digest}"));
        Error::Answer { host, what, source }
    };
    let mut retry = session.retry();
    let bytes = loop {
        let read = match open(session, digest, None).await {
            Ok(Opened::Whole(mut answer) | Opened::Part(mut answer)) => {
                let mut bytes = Vec::new();
                loop {
                    match answer::piece(&mut answer).await {
                        Ok(Some(piece)) if bytes.len() + piece.len() > most => {
                            let why = format!("the answer has more than {most} bytes");
                            return Err(failed(std::io::Error::other(why)));
                        }
                        Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                        Ok(None) => break Ok(bytes),
                        Err(source) => break Err(failed(source)),
                    }
                }
            }
            // Google's registries do not find a blob now and then.
            Err(error) if error.is_absence() && retry.tries() < UNKNOWN_TRIES => Err(error),
            Err(error) => return Err(error),
        };
        match read {
            Ok(bytes) => break bytes,
            Err(error) => session.pause(&mut retry, Failure::Passing(error, None)).await?,
        }
    };
    let found = Digest::of(&bytes);
    match found == digest {
        true => Ok(bytes.into()),
        false => Err(failed(std::io::Error::other(format!("the answer has the digest {found}")))),
    }
}
