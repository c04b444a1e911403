//! Reads images from a repository: documents, and blobs as streams. The methods block, and any number of threads may call them.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nixply_oci::{Digest, Manifest, Platform};
use nixply_packer::ImageSpec;
use nixply_packer::image::Measured;
use tokio::runtime::Runtime;

use super::blob::{self, Blob};
use super::http::Client;
use super::index::Index;
use super::manifests::{self, Current};
use super::reference::{Reference, Repository, Version};
use super::session::{Access, Session};
use crate::error::{Error, Result};

/// Maximum depth of nested indexes.
const MAX_INDEX_DEPTH: usize = 4;

/// Time between two looks at the flag that ends reads.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// Reads one repository.
pub struct Reader {
    pub(super) session: Session,
    pub(super) runtime: Arc<Runtime>,
    stop: Arc<AtomicBool>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

/// An image of one platform, without its layers.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// The indexes that lead to the manifest, and their digests.
    pub indexes: Vec<Document>,
    /// The manifest.
    pub manifest: Document,
    /// The manifest's fields.
    pub fields: Manifest,
    /// The config. Its digest is the image ID.
    pub config: Vec<u8>,
    /// The platform in the config.
    pub platform: Platform,
    /// The image as a spec. Its layers have neither paths nor files.
    pub spec: ImageSpec,
}

impl RemoteImage {
    /// Returns the digest of the version that the caller named: that of the index, or of the manifest.
    pub fn digest(&self) -> Digest {
        self.indexes.first().unwrap_or(&self.manifest).digest
    }
}

impl Client {
    /// Returns a reader of a repository. It sends no request.
    pub fn reader(&self, repository: &Repository) -> Result<Reader> {
        let (session, runtime) = (self.session(repository, Access::Pull, &[])?, self.runtime()?);
        Ok(Reader { session, runtime, stop: self.stop.clone() })
    }
}

impl Reader {
    /// Waits for the end of `work`, or for the flag that ends all reads.
    pub(super) fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let stopped = async {
            while !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = stopped => Err(nixply_packer::Error::Interrupted.into()),
            }
        })
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        self.session.repository()
    }

    /// Number of requests so far.
    pub fn requests(&self) -> u64 {
        self.session.requests()
    }

    /// Reads the manifest or index of a version.
    pub fn document(&self, version: &Version) -> Result<Document> {
        match self.wait(manifests::read(&self.session, version, None))? {
            Current::Other(found) => Ok(Document { bytes: found.bytes.to_vec(), digest: found.digest }),
            Current::Known | Current::Absent => Err(Error::Absent { reference: self.reference(version) }),
        }
    }

    /// Reads a small blob, such as a config.
    pub fn small(&self, digest: Digest) -> Result<Vec<u8>> {
        Ok(self.wait(blob::small(&self.session, digest, blob::MAX_CONFIG))?.to_vec())
    }

    /// Reads the manifest or index of a version without comparing its digest. None if there is none.
    pub fn unchecked_document(&self, version: &Version) -> Result<Option<Vec<u8>>> {
        let read = self.wait(manifests::unchecked(&self.session, version))?;
        Ok(read.map(|bytes| bytes.to_vec()))
    }

    /// Reads a blob of at most `most` bytes without comparing its digest. None if there is none.
    pub fn unchecked_small(&self, digest: Digest, most: u64) -> Result<Option<Vec<u8>>> {
        let (mut blob, mut bytes) = (self.blob(digest, u64::MAX), Vec::new());
        loop {
            let piece = match blob.piece() {
                Err(error) if error.is_absence() => return Ok(None),
                piece => piece?,
            };
            if piece.is_empty() {
                return Ok(Some(bytes));
            }
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                let source = std::io::Error::other(format!("it has more than {most} bytes"));
                return Err(blob::failed(&self.session, digest, source));
            }
        }
    }

    /// Reads a layer's blob, and decompresses it. None if there is none.
    pub fn measured(&self, digest: Digest, size: u64) -> Result<Option<Measured>> {
        let mut blob = self.blob(digest, size);
        // The first request shows whether the blob exists.
        match blob.begin() {
            Err(error) if error.is_absence() => return Ok(None),
            begun => begun?,
        }
        // One byte more shows that the blob is too long; an endless one would be read forever.
        let mut blob = blob.take(size.saturating_add(1));
        Measured::of(&mut blob).map(Some).map_err(|source| match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => blob::failed(&self.session, digest, source),
        })
    }

    /// Returns a blob as a stream, which continues after a broken connection. The caller compares digest and size.
    pub fn blob(&self, digest: Digest, size: u64) -> Blob<'_> {
        Blob::new(self, digest, size)
    }

    /// Reads an image. `wanted` chooses from an index; it does not restrict a version that is a single image.
    pub fn image(&self, version: &Version, wanted: &Platform) -> Result<RemoteImage> {
        self.image_of(self.document(version)?, wanted)
    }

    /// Like [`Reader::image`], for a document that was read already.
    pub fn image_of(&self, mut document: Document, wanted: &Platform) -> Result<RemoteImage> {
        let mut indexes = Vec::new();
        while let Some(index) = Index::of(&document.bytes) {
            let reference = self.reference(&Version::Digest(document.digest));
            if indexes.len() == MAX_INDEX_DEPTH {
                let why = format!("more than {MAX_INDEX_DEPTH} indexes are nested in it");
                return Err(nixply_packer::Error::invalid(reference, why).into());
            }
            let Some(child) = index.choose(wanted) else {
                let (wanted, has) = (wanted.to_string(), index.platforms());
                return Err(Error::NoPlatform { reference, wanted, has });
            };
            let version = Version::Digest(child.digest);
            indexes.push(std::mem::replace(&mut document, self.document(&version)?));
        }
        let name = PathBuf::from(self.reference(&Version::Digest(document.digest)));
        let text = |bytes: &[u8], name: &PathBuf| {
            let not_text = |_| nixply_packer::Error::invalid(name.display().to_string(), "it is not text");
            String::from_utf8(bytes.to_vec()).map_err(not_text)
        };
        let manifest = text(&document.bytes, &name)?;
        ImageSpec::check_manifest((&name, &manifest))?;
        let fields: Manifest = nixply_documents::document::read(&manifest, &name.display().to_string())
            .map_err(nixply_packer::Error::from)?;
        let config = self.small(fields.config.digest)?;
        if config.len() as u64 != fields.config.size {
            let why =
                format!("it has {} bytes, but the manifest records {}", config.len(), fields.config.size);
            return Err(blob::failed(&self.session, fields.config.digest, std::io::Error::other(why)));
        }
        let config_name = PathBuf::from(self.reference(&Version::Digest(fields.config.digest)));
        let spec =
            ImageSpec::from_documents((&name, &manifest), (&config_name, &text(&config, &config_name)?))?;
        Ok(RemoteImage { indexes, manifest: document, fields, config, platform: spec.platform(), spec })
    }

    /// Returns the reference of a version for messages.
    pub fn reference(&self, version: &Version) -> String {
        Reference { repository: self.repository().clone(), version: version.clone() }.to_string()
    }
}
