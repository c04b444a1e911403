//! Cancellation of planning.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A flag that another thread sets to stop planning, or no flag. Planning checks it many times a second.
#[derive(Clone, Copy, Default)]
pub struct Stop<'s>(Option<&'s AtomicBool>);

impl<'s> Stop<'s> {
    /// Stops planning with [`Error::Interrupted`] soon after `flag` becomes true.
    pub fn new(flag: &'s AtomicBool) -> Self {
        Self(Some(flag))
    }

    /// Whether the flag is set.
    pub(super) fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Fails if the flag is set.
    pub fn check(self) -> Result<()> {
        if self.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl fmt::Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_set())
    }
}
