//! Store paths that are ready to be read into a layer.

use std::path::PathBuf;

use nixply_planning::{PathOptions, PlannedPath, Rules, Store, StorePath, nar_hash};

use crate::error::Result;

/// A store path that is ready to be read: its files on this machine, and its rules.
#[derive(Debug)]
pub struct LayerPath {
    pub(crate) path: StorePath,
    pub(crate) real_path: PathBuf,
    pub(crate) rules: Rules,
    /// Whether the path must be a directory.
    pub(crate) directory_only: bool,
    pub(crate) options: Option<PathOptions>,
    nar_hash: Option<String>,
    nar_size: u64,
}

impl LayerPath {
    /// Compiles a planned path's rules and finds its files in `store`.
    pub fn new(planned: &PlannedPath, store: &Store) -> Result<Self> {
        let rules = match &planned.options {
            Some(options) => Rules::compile(options, planned.path.as_str())?,
            None => Rules::default(),
        };
        Ok(Self {
            path: planned.path.clone(),
            real_path: store.real_path(&planned.path),
            rules,
            directory_only: false,
            options: planned.options.clone(),
            nar_hash: None,
            nar_size: 0,
        })
    }

    /// Sets the archive's hash, which a [`Cache`](crate::cache::Cache) needs, and its size, which is for
    /// [`Progress`](crate::control::Progress). Empty and 0 mean unknown.
    #[must_use]
    pub fn with_archive(self, nar_hash: &str, nar_size: u64) -> Self {
        let nar_hash = (!nar_hash.is_empty()).then(|| nar_hash::canonical(nar_hash));
        Self { nar_hash, nar_size, ..self }
    }

    /// Requires the path to be a directory: `copyToRoot` copies only the content of directories.
    #[must_use]
    pub(crate) fn with_directory_only(self, directory_only: bool) -> Self {
        Self { directory_only, ..self }
    }

    /// Prepares all paths of a layer.
    pub fn all(planned: &[PlannedPath], store: &Store) -> Result<Vec<Self>> {
        planned.iter().map(|path| Self::new(path, store)).collect()
    }

    /// Returns the hash of the path's archive in Nix's database, if known.
    pub(crate) fn nar_hash(&self) -> Option<&str> {
        self.nar_hash.as_deref()
    }

    /// Returns the sum of the paths' archive sizes, in bytes.
    pub(crate) fn total(paths: &[Self]) -> u64 {
        paths.iter().map(|path| path.nar_size).sum()
    }
}
