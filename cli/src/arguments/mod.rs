//! Flags that several commands share, and parsers for their values.

mod cache;
mod evaluation;
mod layering;
mod outside_store;
mod platform;
mod registry;
mod report;
mod request;
mod scratch;
mod store;
pub(crate) mod values;
mod verbosity;

use clap::Parser;

pub(crate) use self::cache::{CacheArgs, CacheDirArgs};
pub(crate) use self::evaluation::Evaluation;
pub(crate) use self::layering::LayeringArgs;
pub(crate) use self::outside_store::OutsideStoreArgs;
pub(crate) use self::platform::PlatformArgs;
pub(crate) use self::registry::{CacheFromArgs, Learned, RegistryArgs, reference};
pub(crate) use self::report::ReportArgs;
pub(crate) use self::request::{RequestArgs, closure_of, with_document_name};
pub(crate) use self::scratch::ScratchArgs;
pub(crate) use self::store::{StoreArgs, store_dir_of};
pub(crate) use self::verbosity::Verbosity;

/// Returns the name of an environment variable for clap. A variable that is set to the empty string counts as unset, but clap would
/// parse its value.
pub(crate) fn unless_empty(name: &'static str) -> Option<&'static str> {
    std::env::var_os(name).is_none_or(|value| !value.is_empty()).then_some(name)
}

/// Store and cache settings from environment variables, for commands without these flags.
#[derive(Parser)]
pub(crate) struct EnvironmentArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

impl EnvironmentArgs {
    /// Reads the environment. Error messages start with `program`.
    pub(crate) fn read(program: &str) -> Result<Self, clap::Error> {
        Self::try_parse_from([program])
    }
}
