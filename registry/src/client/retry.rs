//! Repeats failed requests with growing, random delays.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::Rng;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

use super::limits::Limits;
use crate::error::{Error, Result};

/// Maximum number of tries of a request.
const TRIES: u32 = 8;

/// Maximum number of tries of a request that saves others, but that some registries do not know.
const OPTIONAL_TRIES: u32 = 3;

/// Maximum number of tries while the registry has not answered any request: it may not exist.
const FIRST_TRIES: u32 = 3;

/// A failed try.
pub(super) enum Failure {
    /// Another try may succeed, after this delay if the registry names one.
    Passing(Error, Option<Duration>),
    /// The registry demands authentication. The request had the authorization of this renewal.
    Unauthorized(Response, u64),
    /// Another try would fail as well.
    Lasting(Error),
}

/// The state of the tries of one action.
pub(super) struct Retry {
    limits: Arc<Limits>,
    tries: u32,
    most: u32,
    /// Whether the caller can do without the request.
    is_optional: bool,
    delay: Duration,
    /// Whether an answer with status 401 has led to a new authorization.
    pub(super) renewed: bool,
}

impl Retry {
    pub(super) fn new(limits: &Arc<Limits>) -> Self {
        let delay = limits.first_delay;
        Self { limits: limits.clone(), tries: 1, most: TRIES, is_optional: false, delay, renewed: false }
    }

    /// Allows few tries and one renewal, for a request that the caller can do without.
    pub(super) fn optional(self) -> Self {
        Self { most: OPTIONAL_TRIES, is_optional: true, ..self }
    }

    /// Number of tries so far.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// Counts a try for another renewal of the authorization. Returns whether there should be one.
    pub(super) fn may_renew_again(&mut self) -> bool {
        self.tries += 1;
        !self.is_optional && self.tries <= self.most
    }

    /// Waits until the next try, or returns the error if there should be none. `exists` is whether the registry has answered any
    /// request.
    pub(super) async fn pause(&mut self, failure: Failure, exists: bool) -> Result<()> {
        let (error, named) = match failure {
            Failure::Passing(error, named) => (error, named),
            Failure::Lasting(error) => return Err(error),
            Failure::Unauthorized(..) => unreachable!("the session handles it"),
        };
        if self.tries >= if exists { self.most } else { FIRST_TRIES.min(self.most) } {
            return Err(error);
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        let own = self.delay.mul_f64(jitter);
        // Many clients may have got the same answer. A delay of nothing, or a time that is past for this machine's clock, is too short.
        let named = named
            .map(|named| named.min(self.limits.max_requested_delay).mul_f64(1.0 + (jitter - 0.5) / 10.0));
        let pause = named.unwrap_or_default().max(own);
        tokio::time::sleep(pause).await;
        self.tries += 1;
        self.delay = (self.delay * 2).min(self.limits.max_delay);
        Ok(())
    }
}

/// Returns whether another try may succeed after this status.
pub(super) fn is_passing(status: StatusCode) -> bool {
    // 499 and 522 are those of proxies: nginx's "client closed request" and Cloudflare's "connection timed out".
    matches!(status.as_u16(), 408 | 429 | 499)
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Returns whether the status means that the registry gets too many requests. Amazon ECR used 503 for that.
pub(super) fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns the delay in the header `Retry-After`: a number of seconds, or a time (RFC 9110, 10.2.3).
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = httpdate::parse_http_date(value).ok()?;
    Some(time.duration_since(SystemTime::now()).unwrap_or_default())
}
