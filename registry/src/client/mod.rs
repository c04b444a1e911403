//! A client that pushes images to registries and reads them, by the OCI distribution protocol.
//!
//! ```text
//! push ──────────> delivery ──────> manifests, upload ──> session ──────> registry
//! images and       one image,       one document,         authorization,
//! destinations     one repository   one blob              retry, pace
//!
//! pull ──────────> read, index ───> manifests, blob ────> session ──────> registry
//! one image,       one image's      one document,
//! one directory    documents        one stream
//! ```

mod answer;
mod authorization;
mod blob;
mod challenge;
mod credentials;
mod delivery;
mod frames;
mod http;
mod index;
mod known;
mod limits;
mod location;
mod manifests;
mod pace;
mod pull;
mod push;
mod read;
mod reference;
mod retry;
mod session;
mod upload;

#[cfg(test)]
mod tests;

pub use self::blob::Blob;
pub use self::credentials::{Credentials, FindCredentials, FindTls, Tls};
pub use self::frames::Frames;
pub use self::http::{Client, Options};
pub use self::index::{Child, Index};
pub use self::push::{Learned, Push, Pushed};
pub use self::read::{Document, Reader, RemoteImage};
pub use self::reference::{Reference, Repository, Version};
