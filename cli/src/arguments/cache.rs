//! The flags of commands that use the cache.

use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::OsStringValueParser;
use nixply_packer::cache::Cache;

use super::{unless_empty, values};

/// Where the results of earlier calls are.
#[derive(clap::Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    dir: CacheDirArgs,

    /// Use no cache, even if a flag or variable names one
    // Does not conflict with --cache-dir: clap would count one that the environment names.
    #[arg(long)]
    no_cache: bool,

    /// Another user's cache directory, which is read and never written; its owner decides what is in the image
    // Takes empty ones, too, as PATH does: they come from joining variables that may be empty.
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_SHARED"), value_delimiter = ':')]
    #[arg(value_parser = OsStringValueParser::new())]
    cache_shared: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct CacheDirArgs {
    /// The cache directory [default: nixply in the XDG cache directory]
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_DIR"), global = true)]
    cache_dir: Option<PathBuf>,

    /// The most that the cache may hold, as in 500MB or 20GiB; the least recently used entries are evicted first
    #[arg(long, value_name = "SIZE", env = unless_empty("NIXPLY_CACHE_LIMIT"), default_value = "10GB", global = true)]
    #[arg(value_parser = values::size, allow_negative_numbers = true)]
    pub(crate) cache_limit: ByteSize,
}

impl CacheArgs {
    /// Opens the cache, unless the user wants none.
    pub(crate) fn open(&self) -> Option<Cache> {
        let folder = if self.no_cache { None } else { self.dir.folder() };
        let shared =
            self.cache_shared.iter().filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
        let limit = self.dir.cache_limit.as_u64();
        folder.map(|folder| Cache::new(folder).with_shared(shared).with_limit(limit))
    }
}

impl CacheDirArgs {
    /// Returns the cache directory, if there is one.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        // XDG Base Directory Specification: relative paths count as unset.
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let given = || {
            let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
            base.map(|base| base.join("nixply"))
        };
        self.cache_dir.clone().or_else(given)
    }
}
