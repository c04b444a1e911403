//! Reports about images: [`explain`](mod@explain) says why a store path is in an image, and [`diff`](mod@diff) what changes
//! between two images and what that costs. [`validate`] compares an image's documents with its blobs.
//!
//! A report is data. Programs present it.

pub mod diff;
pub mod explain;
pub mod validate;
