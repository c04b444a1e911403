//! Moves images by the OCI distribution protocol. [`server`] is a read-only registry on loopback, [`client`] pushes to other registries.
//! Both pack a layer when its bytes are first read ([`content`]).
//!
//! The packer defines layers and their bytes. This crate decides where to listen, which clients to answer, what to send, and when to
//! pack.

pub mod client;
pub mod content;
mod error;
pub mod server;

pub use error::{Error, Result};
