//! Times and sizes that bound the work of a client. Tests shorten them.

use std::time::Duration;

/// Times and sizes that bound the work of a client.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Delay before the second try of a request. It doubles before each further one.
    pub(super) first_delay: Duration,
    /// Longest delay.
    pub(super) max_delay: Duration,
    /// Longest delay that a registry may request with `Retry-After`.
    pub(super) max_requested_delay: Duration,
    /// Maximum time without any progress of a connection.
    pub(super) stall_timeout: Duration,
    /// Number of bytes of a chunk, for registries behind a proxy that limits the size of requests: Cloudflare's limit is 100 MB.
    pub(super) chunk: u64,
    /// Assumed speed of an upload in bytes per second, to estimate whether a token lives long enough.
    pub(super) assumed_speed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(10),
            max_requested_delay: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(120),
            chunk: 64 << 20,
            assumed_speed: 2 << 20,
        }
    }
}
