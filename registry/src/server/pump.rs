//! Where a blob's bytes come from, and that nobody gets a wrong blob to its end: a file, the cache, or packing.
//!
//! Others could change a file or the cache while they are served. A reader of a blob's end therefore gets bytes that were compared
//! with a proof (`proof`). A reader of the whole blob, where there is no proof yet, gets them at once: they are hashed on the way,
//! and the last piece is held back until the digest is right.

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
use super::proof::{Input, Proof, Proving, Unproven};
use super::workshop::{PackedBlob, Workshop};
use crate::error::{Error, Result};

/// Bytes that are read and sent at once.
pub(super) const PIECE: usize = 64 << 10;

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
    proving: Arc<Proving>,
}

impl FileBlob {
    /// Opens a layer's file, and keeps it open unless there are too many of them.
    pub(super) fn new(digest: Digest, name: &str, store: &Store, place: usize, keep: bool) -> Result<Self> {
        let file = LayerFile::open(name, store)?;
        let (size, file, open) = (file.size(), file.place(), keep.then(|| Arc::new(file)));
        Ok(Self { digest, name: name.into(), place, size, open, file, proving: Arc::default() })
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The file that was opened at first.
    pub(super) fn open(&self, store: &Store) -> Result<Arc<LayerFile>> {
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
            let reached =
                pump_checked(&input, &blob.proving, blob.digest(), part, size, sender, workshop).await?;
            match reached {
                Reached::End => Ok(()),
                Reached::Wrong { found, .. } => {
                    let error = PackerError::BlobMismatch { expected: blob.digest(), found, path };
                    Err(told(workshop, &error.into()))
                }
                // A file that can be read has no gaps.
                Reached::Gap { .. } | Reached::Unread => Err(failed(Failed)),
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
    let reached = pump_checked(&input, &blob.proving, digest, part.clone(), size, sender, workshop).await?;
    match reached {
        Reached::End => return Ok(()),
        Reached::Unread => return Err(failed(Failed)),
        Reached::Gap { .. } | Reached::Wrong { .. } => {}
    }
    // Evicted or damaged meanwhile, or the cache has had something wrong: packing gives the right bytes, or says why not.
    let growing = workshop.open(blob).map_err(|error| told(workshop, &error))?;
    match reached {
        Reached::Gap { at, .. } | Reached::Wrong { at, .. } if at == part.start => {
            pump_growing(&growing, part, size, sender, None).await
        }
        Reached::Gap { at, sent } => {
            let before = match sent {
                Sent::Hashed(hasher) => Some((hasher, digest)),
                Sent::Proven | Sent::Unproven => None,
            };
            pump_growing(&growing, at..part.end, size, sender, before).await
        }
        // What was sent was wrong. The next one has it packed, and what is wrong with that is told before this one is cut.
        _ => {
            growing.readable(size - 1, size).await.map_err(failed)?;
            Err(failed(Failed))
        }
    }
}

/// How far a part was sent.
enum Reached {
    /// To its end, or until its reader was gone.
    End,
    /// To where the cache has lost the blob.
    Gap { at: u64, sent: Sent },
    /// To the piece with which the blob is not what it should be.
    Wrong { at: u64, found: Digest },
    /// To where the file cannot be read, of which the owner has been told, or changes all the time.
    Unread,
}

/// What is known of the bytes that were sent already.
enum Sent {
    /// All of them were compared with a proof.
    Proven,
    /// This is their hash.
    Hashed(Sha256),
    /// Nothing: the part does not have the blob's end in it.
    Unproven,
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
                    let buffer = read_file(&file, at, most, &workshop)?;
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

    /// The piece that begins at `at`, as the proof knows it.
    async fn proven(
        &self,
        at: u64,
        size: u64,
        proof: &Arc<Proof>,
        workshop: &Arc<Workshop>,
    ) -> io::Result<Piece> {
        let (input, proof, workshop) = (self.clone(), proof.clone(), workshop.clone());
        blocking(move || {
            let most = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
            let bytes = match &input {
                Self::File(file) => read_file(file, at, most, &workshop)?,
                Self::Cached(cached, _) => match cached.read_unchecked(at, most) {
                    Some(bytes) => bytes,
                    None => return Ok(Piece::Lost),
                },
            };
            Ok(if proof.has(at, &bytes) { Piece::Right(bytes.into()) } else { Piece::Wrong })
        })
        .await
    }
}

/// What was read in the place of a piece.
enum Piece {
    Right(Bytes),
    Wrong,
    /// The cache does not have it any more.
    Lost,
}

fn read_file(file: &LayerFile, at: u64, count: usize, workshop: &Workshop) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    file.read_exact_at(&mut buffer, at).map_err(|error| told(workshop, &error.into()))?;
    Ok(buffer)
}

/// Sends a part of a blob that others could change.
async fn pump_checked(
    input: &Input,
    proving: &Arc<Proving>,
    expected: Digest,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Arc<Workshop>,
) -> io::Result<Reached> {
    // Clients read on so what was cut. Everybody else gets the first bytes at once.
    let proof = match (part.start, part.end == size) {
        (0, true) => proving.known(input),
        (_, false) => proving.last_known(),
        (_, true) => match proving.prove(input, expected, size, workshop).await {
            Ok(proof) => Some(proof),
            Err(unproven) => return Ok(unproven.reached(part.start)),
        },
    };
    let Some(proof) = proof else { return pump_hashed(input, expected, part, size, sender, workshop).await };
    let mut at = part.start;
    while at < part.end {
        // A piece is read when there is room for it.
        let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
        let begin = at - at % PIECE as u64;
        let bytes = match input.proven(begin, size, &proof, workshop).await? {
            Piece::Right(bytes) => bytes,
            Piece::Wrong if matches!(input, Input::File(_)) => {
                // Its owner is told which digest it has now.
                return Ok(match proving.prove(input, expected, size, workshop).await {
                    Ok(_) => Reached::Unread,
                    Err(unproven) => unproven.reached(at),
                });
            }
            Piece::Wrong | Piece::Lost => return Ok(Reached::Gap { at, sent: Sent::Proven }),
        };
        let end = part.end.min(begin + bytes.len() as u64);
        room.send(Ok(bytes.slice((at - begin) as usize..(end - begin) as usize)));
        at = end;
    }
    Ok(Reached::End)
}

impl Unproven {
    /// How far a reader has got that has the bytes up to `at`, each of them proven.
    fn reached(self, at: u64) -> Reached {
        match self {
            Self::Wrong(found) => Reached::Wrong { at, found },
            Self::Gap => Reached::Gap { at, sent: Sent::Proven },
            Self::Unread => Reached::Unread,
        }
    }
}

/// Sends a part of a blob of which there is no proof: all of it, whose last piece is sent when the digest is the right one, or a
/// part without the end.
async fn pump_hashed(
    input: &Input,
    expected: Digest,
    part: Range<u64>,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    workshop: &Arc<Workshop>,
) -> io::Result<Reached> {
    let mut hasher = (part.end == size).then(Sha256::new);
    let mut at = part.start;
    while at < part.end {
        // A piece is read when there is room for it.
        let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
        let Some((bytes, hashed)) = input.piece(at, part.end - at, hasher.clone(), workshop).await? else {
            return Ok(Reached::Gap { at, sent: hasher.map_or(Sent::Unproven, Sent::Hashed) });
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
