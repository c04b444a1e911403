//! The content of images, for the server and the client: manifests by name, and blobs by digest. A layer is packed when its bytes
//! are first read, once, while it is read.
//!
//! ```text
//! catalog ──────> blob_source
//! names and       bytes from a file, the cache,
//! digests         or from pack_queue
//! ```
//!
//! `pack_queue` writes a `partial_blob`, which readers read while it grows.

pub(crate) mod blob_source;
pub(crate) mod body;
pub(crate) mod catalog;
pub(crate) mod client_support;
pub(crate) mod compression;
pub(crate) mod converted;
pub(crate) mod counters;
pub(crate) mod failures;
pub(crate) mod file_blob;
pub(crate) mod frames;
mod image;
pub(crate) mod layer_keys;
pub(crate) mod observer;
pub(crate) mod pack_queue;
pub(crate) mod packed_blob;
pub(crate) mod partial_blob;
pub(crate) mod proof;
mod settings;

pub use self::compression::Compression;
pub use self::counters::Counts;
pub use self::failures::Report;
pub use self::image::Image;
pub use self::observer::{Observer, Read};
pub use self::settings::{RealisePaths, Settings};
