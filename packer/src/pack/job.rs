//! The layers that one call packs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::pieces::Pieces;
use super::recorded::Recorded;
use super::sink::BlobSink;
use crate::cache::{Cache, CachedLayer};
use crate::compress::Compressor;
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};

/// A layer to pack.
pub(super) struct Job<'l> {
    pub(super) at: usize,
    /// Expected size of its stream in bytes, approximately.
    pub(super) expected: u64,
    pub(super) pieces: Pieces<'l>,
    /// The cache's entry of the layer.
    pub(super) known: Option<CachedLayer>,
    pub(super) recorded: Option<Recorded<'l>>,
}

impl Job<'_> {
    /// Returns the layer's number in progress reports.
    pub(super) fn number(&self) -> usize {
        self.recorded.map_or(self.at, |recorded| recorded.place)
    }
}

/// State that all layers of a call share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s> {
    pub(super) compressor: &'s Compressor,
    pub(super) cache: Option<&'s Cache>,
    pub(super) sink: &'s dyn BlobSink,
    pub(super) control: &'s Control<'s>,
    /// Thread pool; none if the system provides no threads.
    pub(super) pool: Option<&'s rayon::ThreadPool>,
    pub(super) permits: &'s CpuPermits,
    /// The permits, if the packer checks the store.
    pub(super) check: Option<&'s CpuPermits>,
    /// Number of the first layer that has failed.
    pub(super) failed: &'s AtomicUsize,
}

impl Shared<'_> {
    /// Returns an error if the caller wants to stop, or if an earlier layer has failed, so that this layer is not needed.
    pub(super) fn check(&self, layer: usize) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) < layer {
            return Err(Error::Interrupted);
        }
        self.control.check()
    }
}
