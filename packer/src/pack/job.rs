//! The layers that one call packs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::pieces::Pieces;
use super::recorded::Recorded;
use super::sink::BlobSink;
use crate::cache::{Cache, KnownLayer};
use crate::compress::Compressor;
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};

/// A layer that is to be packed.
pub(super) struct Job<'l> {
    pub(super) at: usize,
    /// About how many bytes its stream will have.
    pub(super) expected: u64,
    pub(super) pieces: Pieces<'l>,
    /// What the cache knows of it.
    pub(super) known: Option<KnownLayer>,
    pub(super) recorded: Option<Recorded<'l>>,
}

impl Job<'_> {
    /// The layer's number for who listens.
    pub(super) fn number(&self) -> usize {
        self.recorded.map_or(self.at, |recorded| recorded.place)
    }
}

/// What all layers of a call have in common.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s> {
    pub(super) compressor: &'s Compressor,
    pub(super) cache: Option<&'s Cache>,
    pub(super) sink: &'s dyn BlobSink,
    pub(super) control: &'s Control<'s>,
    /// None where the system gives no thread.
    pub(super) pool: Option<&'s rayon::ThreadPool>,
    pub(super) permits: &'s CpuPermits,
    /// The same, if the store is to be checked.
    pub(super) check: Option<&'s CpuPermits>,
    /// The first layer that has failed.
    pub(super) failed: &'s AtomicUsize,
}

impl Shared<'_> {
    /// An error once the caller wants to stop, or nobody will ask for this layer.
    pub(super) fn check(&self, layer: usize) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) < layer {
            return Err(Error::Interrupted);
        }
        self.control.check()
    }
}
