//! Plans and packs Nix closures into OCI images: closure, plan, layers, image, sink, each a module.
//!
//! ```text
//! closure ── plan ── pack (tar, rules, compress, digest) ── image ── image::layout
//!    └──────────────── request: one entry for all doors ────────────────┘
//! ```
//!
//! The packer knows no Nix, starts no process, opens no connection and prints nothing; the store's place is an
//! argument. For the same request it gives the same bytes on every machine, whatever the number of threads.

#[cfg(test)]
extern crate self as nixply_packer;

pub mod argument;
pub mod cache;
mod casehack;
pub mod closure;
pub mod compress;
pub mod control;
mod cpu_permits;
pub mod diff;
pub mod digest;
pub mod document;
mod error;
pub mod explain;
pub mod file_lock;
pub mod given;
pub mod go_json;
pub mod image;
pub mod layer;
pub mod layer_path;
mod nar;
pub mod nar_hash;
pub mod open;
pub mod owner;
pub mod pack;
pub mod plan;
pub mod request;
pub mod rules;
mod scratch;
mod store_check;
pub mod store_path;
pub mod tar;
mod walk;
pub mod wording;

pub use error::{Error, Result, chain};
