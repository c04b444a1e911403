//! Packs Nix closures into OCI images.
//!
//! ```text
//! closure ── plan ── pack (tar, rules, compress, digest) ── image ── layout
//!    └────────────── request: one entry for all frontends ──────────────┘
//! ```
//!
//! The packer does not know Nix, starts no process, opens no connection and prints nothing; the store's path is an argument.
//! For the same request it makes the same bytes on every machine, regardless of the number of threads.
//!
//! Crates in the subdirectories have its parts: `nixply-planning` (closure and plan), `nixply-oci` (documents of images),
//! `nixply-files` (files that other users can change) and `nixply-documents` (JSON and messages). `nixply-reports` uses this crate.

#[cfg(test)]
extern crate self as nixply_packer;

mod cache;
mod casehack;
mod compress;
mod control;
mod cpu_permits;
mod error;
pub mod image;
mod layer;
mod layer_path;
mod nar;
mod pack;
pub mod request;
mod store_check;
mod tar;
mod walk;

pub use cache::{Cache, Compared, LayerKey, Others};
pub use compress::{Codec, FRAME_BYTES};
pub use control::{Control, Progress};
pub use error::{Error, Result};
pub use image::spec::{ImageSpec, Layer};
pub use layer::PackedLayer;
pub use layer_path::LayerPath;
pub use nar::DirectoryHash;
pub use pack::{
    BlobSink, BlobWriter, CachedBlob, FrameIndex, Packer, Packing, Recorded, SegmentPlace, SegmentSource,
    WantedSegment,
};
pub use request::fleet::FleetRequest;
pub use request::image::ImageRequest;
