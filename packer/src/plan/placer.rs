//! Who places the paths of images.

use std::fmt;

use crate::closure::Closure;
use crate::control::Stop;
use crate::error::Result;
use crate::layer::{Plan, PlannedPath};

/// Who places the paths of an image for [`Strategy::Nixply`](super::Strategy::Nixply): from that image alone, by a lock file, or with other images.
pub trait Placer: fmt::Debug {
    /// The layers of `member`, each path in exactly one.
    fn place(&self, member: &Member<'_>, stop: Stop<'_>) -> Result<Plan>;
}

/// An image to be planned together with others.
#[derive(Debug, Clone)]
pub struct Member<'m> {
    /// Its name, by which the lock file knows it.
    pub name: &'m str,
    /// Its closure.
    pub closure: &'m Closure,
    /// What of it is to be placed.
    pub paths: Vec<PlannedPath>,
    /// At most this many layers; 0 counts as 1.
    pub max_layers: usize,
}
