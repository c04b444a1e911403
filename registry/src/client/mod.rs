//! A client that pushes images to registries, by the OCI distribution protocol.
//!
//! ```text
//! push ──────────> delivery ──────> manifests, upload ──> session ──────> registry
//! images and       one image,       one document,         authorization,
//! destinations     one repository   one blob              retry, pace
//! ```

mod answer;
mod authorization;
mod blobs;
mod challenge;
mod credentials;
mod delivery;
mod frames;
mod http;
mod location;
mod manifests;
mod pace;
mod push;
mod reference;
mod retry;
mod session;
mod upload;

#[cfg(test)]
mod tests;

pub use self::credentials::{Credentials, FindCredentials, FindTls, Tls};
pub use self::frames::Frames;
pub use self::http::{Client, Options};
pub use self::push::{Learned, Push, Pushed};
pub use self::reference::{Reference, Repository, Version};
