//! The interface for assigning the paths of images to layers.

use std::fmt;

use crate::closure::Closure;
use crate::error::Result;
use crate::layer::{Plan, PlannedPath};
use crate::plan::Stop;

/// Assigns the paths of an image to layers for [`Strategy::MinChurn`](super::Strategy::MinChurn): from that image alone, by
/// a lock file, or together with other images.
pub trait LayerAssigner: fmt::Debug {
    /// Returns the layers of `member`. Each path is in exactly one.
    fn assign(&self, member: &Member<'_>, stop: Stop<'_>) -> Result<Plan>;
}

/// An image that is planned together with others.
#[derive(Debug, Clone)]
pub struct Member<'m> {
    /// The image's name in the lock file.
    pub name: &'m str,
    /// The image's closure.
    pub closure: &'m Closure,
    /// The paths to assign.
    pub paths: Vec<PlannedPath>,
    /// Maximum number of layers; 0 counts as 1.
    pub max_layers: usize,
}
