//! Reports failures to the server's owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nixply_packer::Error as PackerError;

use crate::error::Error;

/// Receives the reason why a layer cannot be served. The server's threads call it.
pub type Report = Arc<dyn Fn(Error) + Send + Sync>;

/// Passes errors to the server's owner until the server stops.
#[derive(Clone)]
pub(crate) struct Failures {
    report: Report,
    /// Becomes true when the server stops.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Failures {
    pub(crate) fn new(report: Report, stop: Arc<AtomicBool>) -> Self {
        Self { report, stop }
    }

    /// Reports an error, unless the server's stop is its cause.
    pub(crate) fn report(&self, error: Error) {
        if !matches!(error, Error::Packer(PackerError::Interrupted)) && !self.stopping() {
            (self.report)(error);
        }
    }

    /// Whether the server stops.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
