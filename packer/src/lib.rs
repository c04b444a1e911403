//! Plans and packs Nix closures into OCI images. The stages are closure, plan, layers, image and sink; each is a module.
//!
//! ```text
//! closure ── plan ── pack (tar, rules, compress, digest) ── image ── image::layout
//!    └────────────── request: one entry for all frontends ──────────────┘
//! ```
//!
//! The packer does not know Nix, starts no process, opens no connection and prints nothing; the store's path is an argument.
//! For the same request it makes the same bytes on every machine, regardless of the number of threads.

#[cfg(test)]
extern crate self as nixply_packer;

pub mod argument;
mod cache;
mod casehack;
mod closure;
mod compress;
mod control;
mod cpu_permits;
pub mod diff;
mod digest;
pub mod document;
mod error;
pub mod explain;
pub mod file_lock;
pub mod given;
pub mod go_json;
pub mod image;
mod layer;
mod layer_path;
mod nar;
pub mod nar_hash;
pub mod open;
pub mod owner;
mod pack;
pub mod plan;
pub mod request;
mod rules;
mod scratch;
mod store_check;
mod store_path;
mod tar;
mod walk;
pub mod wording;

pub use cache::{Cache, Compared, Others};
pub use closure::{Closure, PathInfo, Store};
pub use compress::{Codec, FRAME_BYTES};
pub use control::{Control, Progress};
pub use digest::{DiffId, Digest};
pub use error::{Error, Result, chain};
pub use image::spec::{ImageSpec, Layer};
pub use layer::{PackedLayer, PathOptions, Perm, PlannedPath, Rewrite};
pub use layer_path::LayerPath;
pub use pack::{BlobSink, BlobWriter, CachedBlob, Packer, Recorded};
pub use plan::strategy::Strategy;
pub use request::fleet::FleetRequest;
pub use request::image::ImageRequest;
pub use rules::{GoPermPath, PermPath, RewritePath, Rules};
pub use store_path::StorePath;
