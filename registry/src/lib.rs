//! Images by the OCI distribution protocol: [`server`] is a read-only registry on loopback that packs a layer when
//! somebody first asks for its bytes.
//!
//! What a layer is and which bytes it has is the packer's business; who listens, who reads what and when it is packed is
//! decided here.

mod error;
pub mod server;

pub use error::{Error, Result};
