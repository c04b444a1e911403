//! What has been transferred.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nixply_packer::digest::Digest;

/// Counted while the server runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    refused: AtomicU64,
    packings: AtomicU64,
    sent: Mutex<BTreeMap<Digest, u64>>,
}

/// What a server has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests of any kind.
    pub requests: u64,
    /// Requests of programs that may not read what there is.
    pub refused: u64,
    /// Layers that packing was begun of; a layer that failed and was asked for again counts again.
    pub packings: u64,
    /// Bytes of blobs (layers and configs) that were sent, by the blob. Blobs of which nothing was sent are not in it.
    pub sent: BTreeMap<Digest, u64>,
}

impl Counts {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Counters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn packing(&self) {
        self.packings.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, blob: Digest, bytes: u64) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner).entry(blob).or_default() += bytes;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            packings: self.packings.load(Ordering::Relaxed),
            sent: self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
