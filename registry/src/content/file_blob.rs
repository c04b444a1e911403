//! A layer of a base image, served from its file.

use std::sync::Arc;

use nixply_oci::Digest;
use nixply_packer::image::LayerFile;
use nixply_planning::Store;

use super::proof::Prover;
use crate::error::{Error, Result};

/// A layer of a base image in a file.
#[derive(Debug)]
pub(crate) struct FileBlob {
    digest: Digest,
    name: String,
    /// The layer's index in the image.
    pub(crate) index: usize,
    pub(crate) size: u64,
    /// The file, if it is kept open.
    open: Option<Arc<LayerFile>>,
    /// Identity of the file.
    file: (u64, u64),
    pub(crate) prover: Arc<Prover>,
}

impl FileBlob {
    /// Opens a layer's file. `keep` keeps it open.
    pub(crate) fn new(digest: Digest, name: &str, store: &Store, index: usize, keep: bool) -> Result<Self> {
        let file = LayerFile::open(name, store)?;
        let (size, file, open) = (file.size(), file.place(), keep.then(|| Arc::new(file)));
        Ok(Self { digest, name: name.into(), index, size, open, file, prover: Arc::default() })
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the file that was opened at the start.
    pub(crate) fn open(&self, store: &Store) -> Result<Arc<LayerFile>> {
        if let Some(file) = &self.open {
            return Ok(file.clone());
        }
        let file = LayerFile::open(&self.name, store)?;
        if (file.place(), file.size()) != (self.file, self.size) {
            return Err(Error::Replaced(file.path().into()));
        }
        Ok(Arc::new(file))
    }
}
