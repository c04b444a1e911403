//! Plans which store paths of a Nix closure share a layer.
//!
//! A [`Closure`] lists store paths with their references, sizes and hashes. [`plan::plan`] groups them into layers by a
//! [`Strategy`]. [`Rules`] change the place, owner and mode of files on their way into the image.

mod closure;
mod error;
mod layer;
pub mod nar_hash;
pub mod plan;
mod rules;
mod store_path;

pub use closure::{Closure, PathInfo, Store};
pub use error::{Error, Result};
pub use layer::{PathOptions, Perm, PlannedPath, Rewrite};
pub use plan::strategy::Strategy;
pub use rules::{GoPermPath, Ownership, PermPath, RewritePath, Rules};
pub use store_path::{NotStorePath, ParseStorePathError, StorePath};
