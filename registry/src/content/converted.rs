//! Layers of base images for clients that do not support their codec. The server recompresses such a layer when a
//! client first requests the manifest. The bytes go to a file without a name, as those of packed layers.

use std::sync::{Arc, OnceLock};

use nixply_oci::Digest;
use nixply_packer::{Codec, Control, Error as PackerError, Layer};

use super::file_blob::FileBlob;
use super::pack_queue::PackQueue;
use super::partial_blob::PartialBlob;
use crate::error::Result;

/// A layer's file in another codec.
#[derive(Debug)]
pub(crate) struct ConvertedBlob {
    pub(crate) file: Arc<FileBlob>,
    layer: Layer,
    pub(crate) codec: Codec,
    made: OnceLock<Made>,
}

/// The converted bytes.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) bytes: Arc<PartialBlob>,
}

impl ConvertedBlob {
    /// Describes the layer of this file in this codec, without converting it.
    pub(crate) fn new(file: Arc<FileBlob>, layer: Layer, codec: Codec) -> Self {
        Self { file, layer, codec, made: OnceLock::new() }
    }

    /// Returns the bytes if the layer has been converted.
    pub(crate) fn made(&self) -> Option<&Made> {
        self.made.get()
    }

    /// Converts the layer, once. Tries again after a failure, because a file can be repaired.
    ///
    /// # Errors
    ///
    /// The file cannot be read or decompressed, or is not the layer; the scratch directory cannot be written;
    /// the server stops.
    pub(crate) async fn make(self: &Arc<Self>, queue: &Arc<PackQueue>) -> Result<Made> {
        if let Some(made) = self.made() {
            return Ok(made.clone());
        }
        let (blob, queue) = (self.clone(), queue.clone());
        // A separate task: a client that goes away must not end a conversion that others wait for.
        let task = tokio::spawn(async move {
            let _thread = queue.exclusive_thread().await;
            if let Some(made) = blob.made() {
                return Ok(made.clone());
            }
            let converting = {
                let (blob, queue) = (blob.clone(), queue.clone());
                move || blob.convert(&queue)
            };
            let made = tokio::task::spawn_blocking(converting).await;
            let made = made.unwrap_or_else(|_| Err(PackerError::Interrupted.into()))?;
            Ok(blob.made.get_or_init(|| made).clone())
        });
        task.await.unwrap_or_else(|_| Err(PackerError::Interrupted.into()))
    }

    fn convert(&self, queue: &PackQueue) -> Result<Made> {
        let file = self.file.open(&queue.store)?;
        let bytes = queue.scratch_file()?;
        let mut written = 0;
        let write = |part: &[u8]| {
            bytes.write(written, part)?;
            written += part.len() as u64;
            Ok(())
        };
        let control = Control::new(&queue.failures.stop, &());
        let (digest, size) = self.layer.convert(file, self.codec, &control, write)?;
        bytes.finish();
        Ok(Made { digest, size, bytes: Arc::new(bytes) })
    }
}
