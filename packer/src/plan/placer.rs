//! The interface for placing the paths of images.

use std::fmt;

use crate::closure::Closure;
use crate::control::Stop;
use crate::error::Result;
use crate::layer::{Plan, PlannedPath};

/// Places the paths of an image for [`Strategy::MinChurn`](super::Strategy::MinChurn): from that image alone, by a lock file,
/// or together with other images.
pub trait Placer: fmt::Debug {
    /// Returns the layers of `member`. Each path is in exactly one.
    fn place(&self, member: &Member<'_>, stop: Stop<'_>) -> Result<Plan>;
}

/// An image that is planned together with others.
#[derive(Debug, Clone)]
pub struct Member<'m> {
    /// The image's name in the lock file.
    pub name: &'m str,
    /// The image's closure.
    pub closure: &'m Closure,
    /// The paths to place.
    pub paths: Vec<PlannedPath>,
    /// Maximum number of layers; 0 counts as 1.
    pub max_layers: usize,
}
