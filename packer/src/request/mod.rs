//! The request: the input of the packer, from every frontend (plugin, derivation, CLI). The same request and closure produce
//! the same bytes in all frontends.
//!
//! [`image`], [`layer`] and [`index`] declare the arguments, [`argument`](nixply_documents::argument) their kinds. [`schema`] describes them to editors, the
//! documentation and the plugin. [`plan`] turns a request into an image.

mod base;
mod builder;
pub(crate) mod fleet;
mod groups;
pub(crate) mod image;
mod index;
mod inputs;
mod layer;
mod nix_database;
mod pack;
mod plan;
pub mod schema;

pub use self::builder::{BuilderInput, BuilderJob};
pub use self::index::{BuiltIndex, IndexRequest};
pub use self::layer::{LAYERS_FILE, LayerPlan, PlannedLayer};
pub use self::plan::{BuiltImage, ImagePlan};
