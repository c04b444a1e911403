//! Types of [OCI images](https://github.com/opencontainers/image-spec): digests, the config, the manifest, platforms and
//! references. The crate reads no files.

mod config;
mod config_warnings;
mod digest;
mod healthcheck;
mod history;
mod manifest;
mod platform;
pub mod reference;

pub use config::{Empty, Given, ImageConfig};
pub use config_warnings::config_warnings;
pub use digest::{DiffId, Digest, ParseDigestError};
pub use healthcheck::{Healthcheck, Request as HealthcheckRequest};
pub use history::{History, ZERO_TIME, canonical_time};
pub use manifest::{CONFIG, Descriptor, INDEX, ImageIndex, MANIFEST, Manifest, ZSTD_TWIN};
pub use platform::{LINUX, Platform, Processor};
