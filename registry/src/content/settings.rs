//! Settings of the content.

use std::path::PathBuf;
use std::sync::Arc;

use nixply_packer::Cache;
use nixply_planning::{Store, StorePath};

use super::compression::Compression;
use super::failures::Report;
use super::observer::Observer;
use crate::error::{Error, Result};

/// Settings of the content: how layers are packed, and who learns of it.
#[derive(Clone)]
pub struct Settings {
    /// Compression of the layers.
    pub compression: Compression,
    /// The store that holds the layers' paths.
    pub store: Store,
    /// Cache of packed layers, which is read and filled.
    pub cache: Option<Cache>,
    /// Total number of packing threads. 0 means one per core.
    pub threads: usize,
    /// Whether the packer verifies store paths against the archive hashes in the cache while it reads them
    /// ([`with_store_check`](nixply_packer::Packer::with_store_check)).
    pub check_store: bool,
    /// Directory for packed layers. Its files have no names, so their space is free again when the process ends.
    pub scratch: PathBuf,
    /// Receives the error if a layer cannot be read.
    pub report: Report,
    /// Receives events about the layers that are packed and read.
    pub observer: Arc<dyn Observer>,
    /// Fetches the store paths of layers before they are packed.
    pub realise: Arc<dyn RealisePaths>,
}

/// Fetches store paths that the store may lack.
pub trait RealisePaths: Send + Sync {
    /// Makes sure that the store has the paths of a layer, given by its index in the image. Returns the reason if that fails.
    fn realise(&self, layer: usize, paths: &[&StorePath]) -> Result<(), String>;
}

/// Fetches nothing: packing reports missing paths.
impl RealisePaths for () {
    fn realise(&self, _layer: usize, _paths: &[&StorePath]) -> Result<(), String> {
        Ok(())
    }
}

impl Settings {
    /// Default settings for images of `store`.
    pub fn new(store: Store) -> Self {
        Self {
            compression: Compression::Auto,
            store,
            cache: None,
            threads: 0,
            check_store: false,
            scratch: std::env::temp_dir(),
            report: Arc::new(|_| {}),
            observer: Arc::new(()),
            realise: Arc::new(()),
        }
    }

    /// Fails if the directory for packed layers cannot be written: now, rather than when a reader waits for a layer.
    pub(crate) fn check_scratch(&self) -> Result<()> {
        let failed = |source| Error::Scratch { directory: self.scratch.clone(), source };
        tempfile::tempfile_in(&self.scratch).map(drop).map_err(failed)
    }
}
