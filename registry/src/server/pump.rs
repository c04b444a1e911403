//! Where a blob's bytes come from, and that nobody gets a wrong blob to its end: a file, the cache, or packing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Bytes;
use nixply_packer::Error as PackerError;
use nixply_packer::digest::Digest;
use nixply_packer::pack::CachedBlob;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::growing::{Failed, Growing, read_exactly};
use super::workshop::{PackedBlob, Workshop};

/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// A blob that is kept in a file: a base image's layer.
#[derive(Debug)]
pub(super) struct FileBlob {
    /// The file.
    pub(super) path: PathBuf,
    /// What the spec says.
    pub(super) digest: Digest,
    /// The file's size.
    pub(super) size: u64,
    /// The layer's place in the image, from 0.
    pub(super) place: usize,
    /// Somebody has read it to its end and found its digest right.
    pub(super) right: AtomicBool,
}

/// Where a reader's bytes come from.
pub(super) enum Source {
    File(Arc<FileBlob>),
    Growing(Arc<Growing>),
    Cached(Arc<CachedBlob>, Arc<PackedBlob>),
}

/// Sends the pieces of a part as they are there.
pub(super) async fn pump(
    source: Source,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Arc<Workshop>,
) -> io::Result<()> {
    match source {
        Source::Growing(growing) => pump_growing(&growing, part, size, sender).await,
        Source::Cached(cached, blob) => {
            let at = pump_cached(&cached, &blob, part.clone(), size, sender).await?;
            if at == part.end {
                return Ok(());
            }
            // Evicted or damaged meanwhile, or the cache has had something wrong: packing gives the same bytes, or says why not.
            let growing = workshop.open(&blob).map_err(|error| {
                workshop.report(&error);
                failed(Failed)
            })?;
            pump_growing(&growing, at..part.end, size, sender).await
        }
        Source::File(blob) => pump_file(&blob, part, size, sender, workshop).await,
    }
}

fn failed(Failed: Failed) -> io::Error {
    io::Error::other("the layer could not be packed")
}

async fn pump_growing(
    growing: &Arc<Growing>,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let end = growing.readable(at, size).await.map_err(failed)?.min(part.end).min(at + PIECE);
        let growing = growing.clone();
        let bytes = blocking(move || growing.read(at, (end - at) as usize)).await?;
        at = end;
        if sender.send(Ok(bytes)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends what the cache has; gives the end of what was sent. A frame is read at once, because it is checked as a whole, and
/// sent in pieces, so that a slow reader holds few of them.
async fn pump_cached(
    cached: &Arc<CachedBlob>,
    blob: &Arc<PackedBlob>,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<u64> {
    let mut at = part.start;
    let mut hasher = None;
    if !blob.right.load(Ordering::Relaxed) {
        if part == (0..size) {
            hasher = Some(Sha256::new());
        } else if part.end == size {
            // As with packed layers, the end is for whoever gets a right blob, and this reader does not see all of it.
            let (cached, blob) = (cached.clone(), blob.clone());
            if !blocking(move || Ok(is_right(&cached, &blob))).await? {
                return Ok(at);
            }
        }
    }
    while at < part.end {
        let (cached, taken, left) = (cached.clone(), hasher.take(), part.end - at);
        let read = move || {
            let Some(mut bytes) = cached.read(at, left.min(PIECE) as usize) else { return Ok((taken, None)) };
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            Ok((taken.map(|hasher| hasher.chain_update(&bytes)), Some(Bytes::from(bytes))))
        };
        let (hashed, Some(bytes)) = blocking(read).await? else { return Ok(at) };
        hasher = hashed;
        let end = at + bytes.len() as u64;
        let whole = hasher.take_if(|_| end == size);
        if whole.is_some_and(|hasher| !note(blob, Digest::finish(hasher))) {
            return Ok(at);
        }
        at = end;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE as usize));
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(part.end);
            }
        }
    }
    Ok(at)
}

/// Reads all of a cached blob to see whether it is what it should be.
fn is_right(cached: &CachedBlob, blob: &PackedBlob) -> bool {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    while at < cached.size() {
        let Some(bytes) = cached.read(at, PIECE as usize) else { return false };
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    note(blob, Digest::finish(hasher))
}

/// Whether that is the blob's digest; if so, this is remembered.
fn note(blob: &PackedBlob, found: Digest) -> bool {
    let is_right = blob.known().is_some_and(|(digest, _)| digest == found);
    if is_right {
        blob.right.store(true, Ordering::Relaxed);
    }
    is_right
}

async fn pump_file(
    blob: &Arc<FileBlob>,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Workshop,
) -> io::Result<()> {
    let mut at = part.start;
    let file = File::open(&blob.path);
    let file = Arc::new(file.inspect_err(|error| report(workshop, unreadable(blob, error)))?);
    let whole = part == (0..size);
    let mut hasher = (whole && !blob.right.load(Ordering::Relaxed)).then(Sha256::new);
    while at < part.end {
        let end = part.end.min(at + PIECE);
        let (file, taken) = (file.clone(), hasher.take());
        let read = move || {
            let bytes = read_exactly(&file, at, (end - at) as usize)?;
            Ok((taken.map(|hasher| hasher.chain_update(&bytes)), bytes))
        };
        let read = blocking(read).await.inspect_err(|error| report(workshop, unreadable(blob, error)));
        let (hashed, bytes) = read?;
        hasher = hashed;
        at = end;
        // As with packed layers, the end is for whoever gets a right blob.
        if let Some(hasher) = hasher.take_if(|_| at == size) {
            check(blob, Digest::finish(hasher)).map_err(|error| {
                report(workshop, error);
                failed(Failed)
            })?;
        }
        if sender.send(Ok(bytes)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn check(blob: &FileBlob, found: Digest) -> Result<(), PackerError> {
    if found != blob.digest {
        return Err(PackerError::BlobMismatch { expected: blob.digest, found, path: blob.path.clone() });
    }
    blob.right.store(true, Ordering::Relaxed);
    Ok(())
}

fn unreadable(blob: &FileBlob, error: &io::Error) -> PackerError {
    let source = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    };
    PackerError::Io { action: "read blob", path: blob.path.clone(), source }
}

fn report(workshop: &Workshop, error: PackerError) {
    workshop.report(&error.into());
}

/// Runs something that may block where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
