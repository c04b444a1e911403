//! Reads JSON documents that users and other programs make, and quotes them in messages. The crate itself reads no files.

pub mod argument;
pub mod document;
mod error;
pub mod go_json;
pub mod wording;

pub use error::{Error, Result, chain};
