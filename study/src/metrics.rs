//! Measurements of a release.

use std::time::Duration;

/// What a release moved. Bytes are those of archives, or as [`Sizes`](crate::sizes::Sizes) has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseMetrics {
    /// Bytes that the registry did not have.
    pub pushed: u64,
    /// Of these, bytes in layers without a path that is new.
    pub churned: u64,
    /// For each image that the release before has, too, bytes that a client fetches who has that.
    pub pulled: Vec<u64>,
    /// Layers of all images that the release before did not have.
    pub layers_changed: usize,
    /// Layers of all images, each once.
    pub layers: usize,
    /// Bytes of all images' layers, each layer once.
    pub stored: u64,
    /// Bytes of all images' paths, each path once.
    pub ceiling: u64,
    /// Bytes of all images, each by itself.
    pub alone: u64,
    /// Bytes in the registry by now, if nothing is ever removed.
    pub registry: u64,
    /// How long planning took.
    pub planning: Duration,
}
