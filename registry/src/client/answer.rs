//! Reads the answers of registries: small bodies, errors, and the time that they take.

use std::io;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;

use super::retry::Failure;
use crate::content::body::SentBytes;
use crate::error::{Error, Result};

/// Maximum time without any progress while the body of an answer is read. It is an extension of the answer.
#[derive(Clone, Copy)]
struct StallTimeout(Duration);

/// Maximum number of bytes of a registry's error message, token or manifest. distribution-spec, "Pushing manifests": registries
/// should accept manifests of 4 MiB.
pub(super) const MAX_DOCUMENT: usize = 4 << 20;

/// Waits for the answer to a request. Fails after a time without progress.
pub(super) async fn within_progress(
    request: RequestBuilder,
    sent: Option<&SentBytes>,
    stall_timeout: Duration,
    (host, what): (&str, &str),
) -> Result<Response, Failure> {
    let request = request.send();
    tokio::pin!(request);
    let bytes = || sent.map_or(0, SentBytes::number);
    let mut before = bytes();
    loop {
        match tokio::time::timeout(stall_timeout, &mut request).await {
            Ok(Ok(mut answer)) => {
                answer.extensions_mut().insert(StallTimeout(stall_timeout));
                return Ok(answer);
            }
            Ok(Err(error)) => return Err(not_answered(error, host, what)),
            Err(_) if bytes() > before => before = bytes(),
            Err(_) => {
                let (host, what, seconds) = (host.into(), what.into(), stall_timeout.as_secs());
                return Err(Failure::Passing(Error::Stalled { host, what, seconds }, None));
            }
        }
    }
}

/// Returns the failure of a request that the registry did not answer.
fn not_answered(error: reqwest::Error, host: &str, what: &str) -> Failure {
    // A URL may contain a signature.
    let source = error.without_url();
    let fails_again = source.is_builder() || source.is_redirect();
    let error = Error::Request { host: host.into(), what: what.into(), source };
    if fails_again { Failure::Lasting(error) } else { Failure::Passing(error, None) }
}

/// Reads the next piece of a body. `None` is its end.
pub(super) async fn piece(response: &mut Response) -> io::Result<Option<Bytes>> {
    let piece = match response.extensions().get() {
        Some(&StallTimeout(time)) => tokio::time::timeout(time, response.chunk()).await,
        None => Ok(response.chunk().await),
    };
    match piece {
        Ok(piece) => piece.map_err(|error| io::Error::other(error.without_url())),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the answer has stopped")),
    }
}

/// Reads a body of at most this many bytes. The error of a longer one is [`io::ErrorKind::FileTooLarge`].
pub(super) async fn bytes(mut response: Response, most: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = piece(&mut response).await? {
        all.extend_from_slice(&piece);
        if all.len() > most {
            let why = format!("the answer has more than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
    }
    Ok(all)
}

/// Returns code and message of the first error in a registry's answer (distribution-spec, "Error codes").
pub(super) fn registry_error(body: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let first = answer.and_then(|answer| answer.errors.into_iter().next());
    first.map_or((None, None), |error| (error.code, error.message.filter(|text| !text.is_empty())))
}
