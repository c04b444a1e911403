//! Reads and writes files that users, other programs and other users of the machine make: each file is opened once, without
//! waiting for a FIFO, and never outside of the directory that it belongs to.
//!
//! The crate knows neither OCI images nor Nix. It starts no process, opens no connection and prints nothing.

mod error;
pub mod file_lock;
pub mod given;
pub mod open;
pub mod owner;
pub mod scratch;

pub use error::{Error, Result};
