//! Where a blob's bytes come from, and that nobody gets a wrong blob to its end: a file, the cache, or packing.
//!
//! Of a blob that others could change while it is served, every byte up to the end of what is asked for is hashed as it is
//! read, each time. The last byte of the blob is held back until the hash is right. So nothing has to be remembered of
//! a blob that was right once.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use hyper::body::Bytes;
use nixply_packer::Error as PackerError;
use nixply_packer::closure::Store;
use nixply_packer::digest::Digest;
use nixply_packer::image::layer_file::LayerFile;
use nixply_packer::pack::CachedBlob;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::growing::{Failed, Growing};
use super::workshop::{PackedBlob, Workshop};
use crate::error::{Error, Result};

/// Bytes that are read and sent at once.
pub(super) const PIECE: usize = 64 << 10;

/// Readers of a blob's end for which the bytes before that are hashed at once.
pub(super) const MOST_PROOFS: usize = 4;

/// A blob that is kept in a file: a base image's layer.
#[derive(Debug)]
pub(super) struct FileBlob {
    digest: Digest,
    name: String,
    /// The layer's place in the image, from 0.
    pub(super) place: usize,
    pub(super) size: u64,
    /// The file, where it is kept open.
    open: Option<Arc<LayerFile>>,
    /// Which file it is.
    file: (u64, u64),
}

impl FileBlob {
    /// Opens a layer's file, and keeps it open unless there are too many of them.
    pub(super) fn new(digest: Digest, name: &str, store: &Store, place: usize, keep: bool) -> Result<Self> {
        let file = LayerFile::open(name, store)?;
        let (size, file, open) = (file.size(), file.place(), keep.then(|| Arc::new(file)));
        Ok(Self { digest, name: name.into(), place, size, open, file })
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The file that was opened at first.
    fn open(&self, store: &Store) -> Result<Arc<LayerFile>> {
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
        Source::Growing(growing) => pump_growing(&growing, part, size, sender, None).await,
        Source::Cached(cached, blob) => pump_cached(cached, &blob, part, size, sender, workshop).await,
        Source::File(blob) => {
            let opened = {
                let (blob, workshop) = (blob.clone(), workshop.clone());
                blocking(move || blob.open(&workshop.store).map_err(|error| told(&workshop, &error))).await?
            };
            let path = opened.path().to_path_buf();
            let input = Input::File(opened);
            match pump_checked(&input, blob.digest(), part, size, sender, workshop).await? {
                Reached::End => Ok(()),
                // A file that can be read has no gaps.
                Reached::Gap { .. } => Err(io::ErrorKind::UnexpectedEof.into()),
                Reached::Wrong { found, .. } => {
                    let error = PackerError::BlobMismatch { expected: blob.digest(), found, path };
                    Err(told(workshop, &error.into()))
                }
            }
        }
    }
}

fn failed(Failed: Failed) -> io::Error {
    io::Error::other("the layer could not be packed")
}

/// Tells the owner why a blob cannot be given to its end.
fn told(workshop: &Workshop, error: &Error) -> io::Error {
    workshop.report(error);
    failed(Failed)
}

/// Sends what is packed, which its packer has checked. What came before it from elsewhere is in the hash, if there is one.
async fn pump_growing(
    growing: &Arc<Growing>,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    mut before: Option<(Sha256, Digest)>,
) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let end = growing.readable(at, size).await.map_err(failed)?.min(part.end).min(at + PIECE as u64);
        // A piece is read when there is room for it.
        let Ok(room) = sender.reserve().await else { return Ok(()) };
        let growing = growing.clone();
        let bytes = blocking(move || growing.read(at, (end - at) as usize)).await?;
        at = end;
        if let Some((hasher, expected)) = &mut before {
            hasher.update(&bytes);
            if at == size && Digest::finish(hasher.clone()) != *expected {
                return Err(failed(Failed));
            }
        }
        room.send(Ok(bytes));
    }
    Ok(())
}

async fn pump_cached(
    cached: Arc<CachedBlob>,
    blob: &Arc<PackedBlob>,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Arc<Workshop>,
) -> io::Result<()> {
    let (digest, _) = blob.known().expect("it is found by its digest");
    let input = Input::Cached(cached, digest);
    let reached = pump_checked(&input, digest, part.clone(), size, sender, workshop).await?;
    if let Reached::End = reached {
        return Ok(());
    }
    // Evicted or damaged meanwhile, or the cache has had something wrong: packing gives the right bytes, or says why not.
    let growing = workshop.open(blob).map_err(|error| told(workshop, &error))?;
    match reached {
        Reached::Gap { at, .. } | Reached::Wrong { at, .. } if at == part.start => {
            pump_growing(&growing, part, size, sender, None).await
        }
        Reached::Gap { at, hasher } => {
            let before = hasher.map(|hasher| (hasher, digest));
            pump_growing(&growing, at..part.end, size, sender, before).await
        }
        // What was sent was wrong. The next one has it packed, and what is wrong with that is told before this one is cut.
        _ => {
            growing.readable(size - 1, size).await.map_err(failed)?;
            Err(failed(Failed))
        }
    }
}

/// What others could change while it is read.
enum Input {
    File(Arc<LayerFile>),
    Cached(Arc<CachedBlob>, Digest),
}

/// How far a part was sent.
enum Reached {
    /// To its end, or until its reader was gone.
    End,
    /// To where the cache has lost the blob, with the hash of all before, if it is asked for.
    Gap { at: u64, hasher: Option<Sha256> },
    /// To the last piece, with which the blob is not what it should be.
    Wrong { at: u64, found: Digest },
}

impl Input {
    /// At most so many bytes from `at` on, and the hash with them. None where the cache has lost them.
    async fn piece(
        &self,
        at: u64,
        most: u64,
        hasher: Option<Sha256>,
        workshop: &Arc<Workshop>,
    ) -> io::Result<Option<(Bytes, Option<Sha256>)>> {
        let most = usize::try_from(most).map_or(PIECE, |most| most.min(PIECE));
        match self {
            Self::File(file) => {
                let (file, workshop) = (file.clone(), workshop.clone());
                let read = move || {
                    let mut buffer = vec![0; most];
                    let read = file.read_exact_at(&mut buffer, at);
                    read.map_err(|error| told(&workshop, &error.into()))?;
                    Ok(Some((hasher.map(|hasher| hasher.chain_update(&buffer)), Bytes::from(buffer))))
                };
                Ok(blocking(read).await?.map(|(hasher, bytes)| (bytes, hasher)))
            }
            Self::Cached(cached, digest) => {
                let Some(bytes) = workshop.frames.piece(*digest, cached, at, most).await? else {
                    return Ok(None);
                };
                let Some(hasher) = hasher else { return Ok(Some((bytes, None))) };
                let hash = move || Ok(Some((hasher.chain_update(&bytes), bytes)));
                Ok(blocking(hash).await?.map(|(hasher, bytes)| (bytes, Some(hasher))))
            }
        }
    }
}

/// Sends a part of a blob. Where that has the blob's end in it, the last piece is sent when the digest is the right one.
async fn pump_checked(
    input: &Input,
    expected: Digest,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Arc<Workshop>,
) -> io::Result<Reached> {
    let mut hasher = (part.end == size).then(Sha256::new);
    if part.start > 0 && hasher.is_some() {
        let _one_of_few = workshop.proofs.acquire().await.map_err(io::Error::other)?;
        let mut at = 0;
        while at < part.start {
            let Some((bytes, hashed)) = input.piece(at, part.start - at, hasher, workshop).await? else {
                return Ok(Reached::Gap { at: part.start, hasher: None });
            };
            at += bytes.len() as u64;
            hasher = hashed;
        }
    }
    let mut at = part.start;
    while at < part.end {
        // A piece is read when there is room for it.
        let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
        let Some((bytes, hashed)) = input.piece(at, part.end - at, hasher.clone(), workshop).await? else {
            return Ok(Reached::Gap { at, hasher });
        };
        let end = at + bytes.len() as u64;
        if let Some(hasher) = hashed.as_ref().filter(|_| end == size) {
            let found = Digest::finish(hasher.clone());
            if found != expected {
                return Ok(Reached::Wrong { at, found });
            }
        }
        (at, hasher) = (end, hashed);
        room.send(Ok(bytes));
    }
    Ok(Reached::End)
}

/// Runs something that may block where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
