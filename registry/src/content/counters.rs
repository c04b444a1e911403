//! Statistics of a server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nixply_oci::Digest;

/// Counters of a running server.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    refused: AtomicU64,
    packings: AtomicU64,
    sent: Mutex<BTreeMap<Digest, u64>>,
}

/// Statistics of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of requests of any kind.
    pub requests: u64,
    /// Number of requests of programs that may not read the images.
    pub refused: u64,
    /// Number of packings that were started. A layer that failed and was requested again counts again.
    pub packings: u64,
    /// Number of sent bytes for each blob (layers and configs). Blobs without sent bytes are absent.
    pub sent: BTreeMap<Digest, u64>,
}

impl Counts {
    /// Total number of sent bytes.
    pub fn bytes(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Counters {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn packing(&self) {
        self.packings.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, blob: Digest, bytes: u64) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner).entry(blob).or_default() += bytes;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            packings: self.packings.load(Ordering::Relaxed),
            sent: self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
