//! A client that pushes images to registries, by the OCI distribution protocol.
//!
//! ```text
//! push ────────> upload ──────> session ────────> registry
//! order of       one blob       authentication,
//! the requests                  retries
//! ```

mod challenge;
mod credentials;
mod location;
mod push;
mod reference;
mod session;
mod upload;

#[cfg(test)]
mod tests;

pub use self::credentials::{Credentials, FindCredentials};
pub use self::push::{Client, Options, Pushed};
pub use self::reference::Reference;
