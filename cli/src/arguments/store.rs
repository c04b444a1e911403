//! The flags that say where the store is and how to read it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use nixply_packer::{Cache, Packer};
use nixply_planning::Store;

use super::{unless_empty, values};

/// The store's directories, the number of packing threads, and store checks.
#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// Store directory that store paths start with [default: the directory of the image's spec if that is a store, otherwise
    /// /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    /// Location of the store directory on this machine, if it differs (a chroot store's DIR/nix/store)
    #[arg(long, value_name = "DIR")]
    real_store_dir: Option<PathBuf>,

    /// Number of packing threads; 0 means one per core
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = values::count, allow_negative_numbers = true)]
    pub(crate) jobs: usize,

    /// Verify store paths while packing: their contents against the hashes that Nix recorded, and file modes against those that Nix
    /// sets. Nothing that differs is kept. Hashes each byte a second time, and repacks layers that were packed without this flag
    #[arg(long, env = "NIXPLY_CHECK_STORE", value_parser = FalseyValueParser::new())]
    pub(crate) check_store: bool,
}

impl StoreArgs {
    /// Returns the store that the flags name.
    pub(crate) fn store(&self) -> Store {
        self.store_at("/nix/store")
    }

    /// Returns the store of an image. If no flag names one, it is the store that contains the spec, perhaps behind a link such as
    /// `result`.
    pub(crate) fn store_of(&self, spec: &Path) -> Store {
        self.store_at(&store_dir_of(spec))
    }

    fn store_at(&self, default: &str) -> Store {
        let mut store = self.store_dir.clone().unwrap_or_else(|| Store::at(default));
        if let Some(real_dir) = &self.real_store_dir {
            store.real_dir.clone_from(real_dir);
        }
        store
    }

    /// Returns a packer with these settings.
    pub(crate) fn packer(&self, cache: Option<Cache>) -> Packer {
        Packer::new(self.jobs).with_cache(cache).with_store_check(self.check_store)
    }
}

/// Returns the directory of the store that contains a spec, perhaps behind a link such as `result`. For a spec outside any store,
/// returns Nix's default store directory.
pub(crate) fn store_dir_of(spec: &Path) -> String {
    let real = fs::canonicalize(spec).ok();
    let dir = real.as_deref().and_then(Path::parent).and_then(Path::to_str);
    match dir.zip(real.as_deref().and_then(Path::to_str)) {
        Some((dir, spec)) if Store::at(dir).check(spec).is_ok() => dir.to_owned(),
        _ => "/nix/store".to_owned(),
    }
}
