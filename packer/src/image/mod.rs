//! The image: nix2container's spec (`image.json`, `layers.json`), the OCI config and manifest made from it, its name and
//! tag, and the OCI layout folder as the place to write them to.

pub mod blob;
mod cached;
pub mod config;
pub mod doubts;
pub mod healthcheck;
pub mod import;
mod index;
pub mod layer_file;
pub mod layout;
pub mod oci;
pub mod platform;
pub mod reference;
pub mod spec;
pub(crate) mod tree;
#[cfg(test)]
mod upstream_tests;

pub use self::cached::Imported;
pub use crate::go_json;
