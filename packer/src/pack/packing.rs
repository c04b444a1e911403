//! The store, the packer and the control of a call.

use nixply_planning::Store;

use super::packer::Packer;
use crate::control::Control;

/// The store with the files, the packer, and the caller's control of the call.
#[derive(Clone, Copy)]
pub struct Packing<'p> {
    pub(crate) store: &'p Store,
    pub(crate) packer: &'p Packer,
    pub(crate) control: &'p Control<'p>,
}

impl<'p> Packing<'p> {
    /// Combines the three.
    pub fn new(store: &'p Store, packer: &'p Packer, control: &'p Control<'p>) -> Self {
        Self { store, packer, control }
    }
}
