//! Measurements of a release.

use std::time::Duration;

/// Measurements of a release. Bytes are those of archives, or as [`Sizes`](crate::sizes::Sizes) counts them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseMetrics {
    /// Bytes that the registry lacked.
    pub pushed: u64,
    /// Of these, bytes in layers without a new path.
    pub churned: u64,
    /// For each image that is also in the previous release: bytes that a client with the previous release pulls.
    pub pulled: Vec<u64>,
    /// Layers of all images that are not in the previous release.
    pub layers_changed: usize,
    /// Layers of all images, each counted once.
    pub layers: usize,
    /// Bytes of all images' layers, each layer counted once.
    pub stored: u64,
    /// Bytes of all images' paths, each path counted once.
    pub ceiling: u64,
    /// Bytes of all images without sharing.
    pub alone: u64,
    /// Bytes in the registry so far, if nothing is ever removed.
    pub registry: u64,
    /// Duration of planning.
    pub planning: Duration,
}
