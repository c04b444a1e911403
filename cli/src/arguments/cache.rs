//! The flags of commands that use the cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::builder::OsStringValueParser;
use etcetera::base_strategy::{BaseStrategy, Xdg};
use nixply_packer::Cache;

use super::{unless_empty, values};

/// Location and use of the cache, which keeps the results of earlier runs.
#[derive(clap::Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    dir: CacheDirArgs,

    /// Do not use the cache, even if a flag or variable names one
    // Not declared to conflict with --cache-dir: clap would also report a conflict with that flag's environment variable.
    #[arg(long)]
    no_cache: bool,

    /// Another user's cache directory, opened read-only. Only use caches of users that you trust: they determine the image's
    /// content. A list separated by colons; can be repeated
    // `open` ignores empty entries, which come from joining variables that may be empty.
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_SHARED"), value_delimiter = ':')]
    #[arg(value_parser = OsStringValueParser::new())]
    cache_shared: Vec<OsString>,
}

/// Location and size of the cache.
#[derive(clap::Args)]
pub(crate) struct CacheDirArgs {
    /// Cache directory [default: nixply in the XDG cache directory]
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_DIR"), global = true)]
    cache_dir: Option<PathBuf>,

    /// Maximum size of the cache, such as 500MB or 20GiB; the least recently used entries are evicted first
    #[arg(long, value_name = "SIZE", env = unless_empty("NIXPLY_CACHE_LIMIT"), default_value = "10GB", global = true)]
    #[arg(value_parser = values::size, allow_negative_numbers = true)]
    pub(crate) cache_limit: ByteSize,
}

impl CacheArgs {
    /// Opens the cache, unless the user disabled it.
    pub(crate) fn open(&self) -> Option<Cache> {
        let directory = if self.no_cache { None } else { self.dir.directory() };
        let shared =
            self.cache_shared.iter().filter(|directory| !directory.is_empty()).map(PathBuf::from).collect();
        let limit = self.dir.cache_limit.as_u64();
        directory.map(|directory| Cache::new(directory).with_shared(shared).with_limit(limit))
    }
}

impl CacheDirArgs {
    /// Returns the cache directory, if there is one.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        self.cache_dir.clone().or_else(|| {
            // XDG Base Directory Specification: relative paths count as unset. Without HOME, `Xdg` would take the home directory
            // from the user database, which may not be writable in a service or a sandbox.
            let home = std::env::var_os("HOME").filter(|home| Path::new(home).is_absolute());
            let xdg = home.and_then(|_| Xdg::new().ok())?;
            Some(xdg.cache_dir().join("nixply"))
        })
    }
}
