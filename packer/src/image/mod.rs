//! The image: nix2container's spec (`image.json`, `layers.json`), the OCI config and manifest made from it, its name and
//! tag, and the OCI layout that it is written to.

pub mod blob;
mod cached;
pub(crate) mod config;
pub(crate) mod doubts;
pub(crate) mod healthcheck;
pub mod import;
mod index;
pub(crate) mod layer_file;
pub mod layout;
pub mod oci;
pub(crate) mod platform;
pub mod reference;
pub(crate) mod spec;
pub(crate) mod tree;
#[cfg(test)]
mod upstream_tests;

pub use self::cached::Imported;
pub use self::config::ImageConfig;
pub use self::doubts::doubts;
pub use self::layer_file::{FileState, LayerFile};
pub use self::platform::{LINUX, Platform, Processor};
pub use self::spec::{History, ZERO_TIME, canonical_time, read_layers, write_layers};
