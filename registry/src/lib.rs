//! Serves images by the OCI distribution protocol. [`server`] is a read-only registry on loopback that packs
//! a layer when a client first reads its bytes.
//!
//! The packer defines layers and their bytes. This crate decides where to listen, which clients to answer,
//! and when to pack.

pub mod content;
mod error;
pub mod server;

pub use error::{Error, Result};
