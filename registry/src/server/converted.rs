//! Layers of base images for readers that know no zstd: compressed anew the first time that such a reader asks for the manifest.
//! The bytes lie in a file without a name, as packed layers do.

use std::sync::{Arc, OnceLock};

use nixply_packer::Error as PackerError;
use nixply_packer::compress::Codec;
use nixply_packer::digest::Digest;
use nixply_packer::image::blob;
use nixply_packer::image::spec::Layer;
use nixply_packer::pack::Control;

use super::growing::Growing;
use super::pump::FileBlob;
use super::workshop::Workshop;
use crate::error::Result;

/// A layer's file in another codec.
#[derive(Debug)]
pub(super) struct ConvertedBlob {
    pub(super) file: Arc<FileBlob>,
    layer: Layer,
    pub(super) codec: Codec,
    made: OnceLock<Made>,
}

/// The converted bytes.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) bytes: Arc<Growing>,
}

impl ConvertedBlob {
    /// The layer whose file this is, in this codec. Nothing is converted yet.
    pub(super) fn new(file: Arc<FileBlob>, layer: Layer, codec: Codec) -> Self {
        Self { file, layer, codec, made: OnceLock::new() }
    }

    /// The bytes, if the layer has been converted.
    pub(super) fn made(&self) -> Option<&Made> {
        self.made.get()
    }

    /// Converts the layer unless that has been done. What failed is tried again: a file can be repaired.
    ///
    /// # Errors
    ///
    /// The file cannot be read or decompressed, or is not the layer; the scratch folder cannot be written; the server stops.
    pub(super) async fn make(self: &Arc<Self>, workshop: &Arc<Workshop>) -> Result<Made> {
        if let Some(made) = self.made() {
            return Ok(made.clone());
        }
        let (blob, workshop) = (self.clone(), workshop.clone());
        // A task of its own: what others wait for does not end with a reader that goes away.
        let task = tokio::spawn(async move {
            let _thread = workshop.alone_with_a_thread().await;
            if let Some(made) = blob.made() {
                return Ok(made.clone());
            }
            let converting = {
                let (blob, workshop) = (blob.clone(), workshop.clone());
                move || blob.convert(&workshop)
            };
            let made = tokio::task::spawn_blocking(converting).await;
            let made = made.unwrap_or_else(|_| Err(PackerError::Interrupted.into()))?;
            Ok(blob.made.get_or_init(|| made).clone())
        });
        task.await.unwrap_or_else(|_| Err(PackerError::Interrupted.into()))
    }

    fn convert(&self, workshop: &Workshop) -> Result<Made> {
        let file = self.file.open(&workshop.store)?;
        let bytes = workshop.scratch_file()?;
        let mut written = 0;
        let write = |part: &[u8]| {
            bytes.write(written, part)?;
            written += part.len() as u64;
            Ok(())
        };
        let control = Control::new(&workshop.stop, &());
        let (digest, size) = blob::convert(file, &self.layer, self.codec, &control, write)?;
        bytes.finish();
        Ok(Made { digest, size, bytes: Arc::new(bytes) })
    }
}
