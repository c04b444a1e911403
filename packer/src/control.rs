//! Progress reports and cancellation: how a caller follows and stops planning and packing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::layer::PackedLayer;

/// A flag that another thread sets when planning is to end, or none. Planning looks at it many times a second.
#[derive(Clone, Copy, Default)]
pub struct Stop<'s>(Option<&'s AtomicBool>);

impl<'s> Stop<'s> {
    /// Planning ends with [`Error::Interrupted`] soon after `flag` becomes true.
    pub fn new(flag: &'s AtomicBool) -> Self {
        Self(Some(flag))
    }

    /// Whether the flag is set.
    pub(crate) fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// An error once the flag is set.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl fmt::Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_set())
    }
}

/// Hears how packing goes. Called from the packer's threads. A layer's number is its place in the image if the sink says
/// which that is ([`BlobSink::recorded`](crate::pack::BlobSink::recorded)), else its place in the call, from 0.
pub trait Progress: Sync {
    /// A call begins to pack so many layers; those that are known are not among them. They have about so many bytes
    /// together, or 0 where that is unknown.
    fn packing_started(&self, _layers: usize, _expected: u64) {}
    /// Work on a layer has begun. Its store paths' archives have so many bytes together, where that is known; its tar
    /// stream has about as many.
    fn layer_started(&self, _layer: usize, _expected: u64) {}
    /// So many further bytes of a layer's tar stream have been packed.
    fn packed(&self, _layer: usize, _bytes: u64) {}
    /// A layer is done.
    fn layer_finished(&self, _layer: usize, _packed: &PackedLayer) {}
}

/// Nobody listens.
impl Progress for () {}

/// How a call is steered from outside.
pub struct Control<'c> {
    stop: &'c AtomicBool,
    pub(crate) progress: &'c dyn Progress,
    pub(crate) case_hack: bool,
}

impl<'c> Control<'c> {
    /// Packing ends with [`Error::Interrupted`] soon after `stop` becomes true.
    pub fn new(stop: &'c AtomicBool, progress: &'c dyn Progress) -> Self {
        // macOS stores have the case hack by default; elsewhere such a name is a name.
        Self { stop, progress, case_hack: cfg!(target_os = "macos") }
    }

    /// The same for planning.
    pub fn stop(&self) -> Stop<'c> {
        Stop::new(self.stop)
    }

    /// An error once the caller wants to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
