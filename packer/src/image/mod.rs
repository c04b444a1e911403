//! The image: nix2container's spec (`image.json`, `layers.json`), the OCI config and manifest made from it, the spec of an index of
//! several images, and the OCI layout that they are written to.

pub(crate) mod blob;
mod cached;
pub(crate) mod description;
mod import;
mod index;
pub(crate) mod index_spec;
pub(crate) mod layer_file;
pub mod layout;
mod oci;
pub(crate) mod spec;
pub(crate) mod tree;
#[cfg(test)]
mod upstream_tests;

pub use self::blob::Measured;
pub use self::cached::Imported;
pub use self::index_spec::{IndexSpec, IndexedImage};
pub use self::layer_file::{FileState, LayerFile};
