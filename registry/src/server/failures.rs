//! Reports failures to the server's owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nixply_packer::Error as PackerError;

use crate::error::Error;

/// Receives the reason why a layer cannot be served. The server's threads call it.
pub type Report = Arc<dyn Fn(&Error) + Send + Sync>;

/// Passes errors to the server's owner until the server stops.
#[derive(Clone)]
pub(super) struct Failures {
    report: Report,
    /// Becomes true when the server stops.
    pub(super) stop: Arc<AtomicBool>,
}

impl Failures {
    pub(super) fn new(report: Report, stop: Arc<AtomicBool>) -> Self {
        Self { report, stop }
    }

    /// Reports an error, unless the server's stop is its cause.
    pub(super) fn report(&self, error: &Error) {
        if !matches!(error, Error::Packer(PackerError::Interrupted)) && !self.stopping() {
            (self.report)(error);
        }
    }

    /// Whether the server stops.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
