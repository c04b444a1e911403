//! Progress reports and cancellation: with these a caller follows and stops planning and packing.

use std::sync::atomic::{AtomicBool, Ordering};

use nixply_planning::plan::Stop;

use crate::error::{Error, Result};
use crate::layer::PackedLayer;

/// Receives the progress of packing. The packer's threads call it. A layer's number is its index in the image if the sink knows
/// that index ([`BlobSink::recorded`](crate::pack::BlobSink::recorded)), otherwise its index in the call, from 0.
pub trait Progress: Sync {
    /// Called when a call begins to pack `layers` layers, which do not include known ones. `expected` is their approximate
    /// total size in bytes, or 0 if unknown.
    fn packing_started(&self, _layers: usize, _expected: u64) {}
    /// Called when work on a layer begins. `expected` is the total size of its store paths' archives in bytes, if known; its
    /// tar stream has about the same size.
    fn layer_started(&self, _layer: usize, _expected: u64) {}
    /// Called after another `bytes` bytes of a layer's tar stream are packed.
    fn packed(&self, _layer: usize, _bytes: u64) {}
    /// Called when a layer is done.
    fn layer_finished(&self, _layer: usize, _packed: &PackedLayer) {}
}

/// Ignores all progress.
impl Progress for () {}

/// A caller's controls for a call: cancellation, progress and the case hack.
pub struct Control<'c> {
    stop: &'c AtomicBool,
    pub(crate) progress: &'c dyn Progress,
    pub(crate) case_hack: bool,
}

impl<'c> Control<'c> {
    /// Stops packing with [`Error::Interrupted`] soon after `stop` becomes true.
    pub fn new(stop: &'c AtomicBool, progress: &'c dyn Progress) -> Self {
        // macOS stores have the case hack by default; elsewhere its suffix is part of the name.
        Self { stop, progress, case_hack: cfg!(target_os = "macos") }
    }

    /// Returns the same flag for planning.
    pub fn stop(&self) -> Stop<'c> {
        Stop::new(self.stop)
    }

    /// Fails if the caller has stopped the call.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
