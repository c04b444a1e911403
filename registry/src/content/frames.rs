//! Keeps verified frames of cached blobs in memory for all clients, and spare buffers. A frame must be read as a whole to be verified. Each client
//! gets copies of small pieces of it, so a stalled client holds a piece, not a frame.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use nixply_oci::Digest;
use nixply_packer::CachedBlob;
use tokio::sync::Semaphore;

/// Number of bytes that the server reads and sends at once.
pub(crate) const PIECE: usize = 64 << 10;

/// Number of bytes that are sent at once to a registry, which reads them at its own speed.
pub(crate) const LARGE_PIECE: usize = 256 << 10;

/// Maximum number of bytes of a packed layer that are read at once for a registry.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Maximum number of bytes in kept frames.
const MAX_BYTES: usize = 32 << 20;

/// Maximum number of frames that are read at once. A frame has at most about 4 MiB.
const MAX_READS: usize = 8;

/// Maximum number of buffers that are kept for later transfers.
const MAX_SPARE: usize = 16;

/// The most recently used frames.
#[derive(Debug)]
pub(crate) struct Frames {
    reads: Semaphore,
    kept: Mutex<VecDeque<Kept>>,
    /// Buffers whose bytes have been sent. The memory of a new buffer would be cleared before it is used.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Bytes of a blob from `at`: one frame or several small ones.
#[derive(Debug)]
struct Kept {
    blob: Digest,
    at: u64,
    bytes: Vec<u8>,
}

/// Bytes to send.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    frames: Arc<Frames>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.frames.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { reads: Semaphore::new(MAX_READS), kept: Mutex::default(), spare: Mutex::default() }
    }

    /// Returns between one and `most` bytes of a blob from `at`. None if the cache has lost them.
    pub(crate) async fn piece(
        self: &Arc<Self>,
        blob: Digest,
        cached: &Arc<CachedBlob>,
        at: u64,
        most: usize,
    ) -> io::Result<Option<Bytes>> {
        if let Some(piece) = self.kept(blob, at, most) {
            return Ok(Some(piece));
        }
        let _read = self.reads.acquire().await.map_err(io::Error::other)?;
        // Another client may have read it in the meantime.
        if let Some(piece) = self.kept(blob, at, most) {
            return Ok(Some(piece));
        }
        let (frames, cached) = (self.clone(), cached.clone());
        let read = move || {
            let mut bytes = Vec::new();
            let read = cached.read(at, PIECE, &mut bytes)?;
            bytes.truncate(read);
            frames.keep(Kept { blob, at, bytes });
            frames.kept(blob, at, most)
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)
    }

    /// Returns a buffer of any length and with any content.
    pub(crate) fn spare(&self) -> Vec<u8> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Returns the first bytes of a buffer to send. The buffer is a spare one when all pieces of them are dropped.
    pub(crate) fn to_send(self: &Arc<Self>, buffer: Vec<u8>, length: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, length, frames: self.clone() })
    }

    fn kept(&self, blob: Digest, at: u64, most: usize) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let has =
            |kept: &Kept| kept.blob == blob && (kept.at..kept.at + kept.bytes.len() as u64).contains(&at);
        let found = kept.iter().position(has)?;
        // Move the frame to the end: the least recently used one is evicted first.
        let frame = kept.remove(found)?;
        let begin = usize::try_from(at - frame.at).ok()?;
        let piece = &frame.bytes[begin..frame.bytes.len().min(begin + most)];
        let piece = Bytes::copy_from_slice(piece);
        kept.push_back(frame);
        Some(piece)
    }

    fn keep(&self, frame: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(frame);
        let mut bytes: usize = kept.iter().map(|frame| frame.bytes.capacity()).sum();
        while bytes > MAX_BYTES && kept.len() > 1 {
            bytes -= kept.pop_front().map_or(0, |frame| frame.bytes.capacity());
        }
    }
}
