//! Sends a blob's bytes from a file, from the cache, or while they are packed. No client receives all of a
//! wrong blob.
//!
//! Files and the cache can change while they are served. A client that reads the end of a blob receives bytes
//! that were compared with a proof (`proof`). A client that reads the whole blob before there is a proof
//! receives bytes at once: the server hashes them on the way and holds back the last piece until the digest
//! is right.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use hyper::body::Bytes;
use nixply_oci::Digest;
use nixply_packer::image::LayerFile;
use nixply_packer::{CachedBlob, Error as PackerError};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::file_blob::FileBlob;
use super::frames::{LARGE_PIECE, PIECE, READ_BYTES};
use super::pack_queue::PackQueue;
use super::packed_blob::PackedBlob;
use super::partial_blob::{Failed, PartialBlob};
use super::proof::{Input, Proof, Prover, Unproven};
use crate::error::{Error, Result};

/// Source of a blob's bytes.
pub(crate) enum Source {
    File(Arc<FileBlob>),
    Partial(Arc<PartialBlob>),
    Cached(Arc<CachedBlob>, Arc<PackedBlob>),
}

impl Source {
    /// Returns the source of a packed layer: the cache, or else a file that the layer is packed to.
    pub(crate) async fn of_packed(queue: &Arc<PackQueue>, blob: &Arc<PackedBlob>) -> Result<Self> {
        match queue.find_cached(blob).await {
            Some(cached) => Ok(Self::Cached(cached, blob.clone())),
            None => queue.open(blob).map(Self::Partial),
        }
    }
}

/// A client's download of a part of a blob.
pub(crate) struct Transfer<'t> {
    pub(crate) part: Range<u64>,
    /// Number of bytes of the whole blob.
    pub(crate) size: u64,
    /// Who compares the whole blob with its digest.
    pub(crate) check: Check,
    pub(crate) sender: &'t mpsc::Sender<io::Result<Bytes>>,
    pub(crate) queue: &'t Arc<PackQueue>,
}

/// Who compares a blob with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The sender, before the receiver has all bytes.
    Sender,
    /// The receiver: a registry accepts no blob with another digest. The sender need not hash cached blobs again, whose frames have
    /// checksums.
    Receiver,
}

impl Transfer<'_> {
    /// Sends the pieces of the part as soon as they are available.
    pub(crate) async fn send(&self, source: Source) -> io::Result<()> {
        match source {
            Source::Partial(partial) => self.send_partial(&partial, self.part.start, None).await,
            Source::Cached(cached, blob) => self.send_cached(cached, &blob).await,
            Source::File(blob) => self.send_file(&blob).await,
        }
    }

    async fn send_file(&self, blob: &Arc<FileBlob>) -> io::Result<()> {
        let opened = {
            let (blob, queue) = (blob.clone(), self.queue.clone());
            blocking(move || blob.open(&queue.store).map_err(|error| report_failure(&queue, error))).await?
        };
        let path = opened.path().to_path_buf();
        match self.send_checked(&Input::File(opened), &blob.prover, blob.digest()).await? {
            Reached::End => Ok(()),
            Reached::Wrong { found, .. } => {
                let error = PackerError::BlobMismatch { expected: blob.digest(), found, path };
                Err(report_failure(self.queue, error.into()))
            }
            // A readable file has no gaps.
            Reached::Gap { .. } | Reached::Unread => Err(failed(Failed)),
        }
    }

    /// Sends the bytes from `from` on, which the packer has checked. `before` holds the hash of the bytes that came from another
    /// source, and the expected digest.
    async fn send_partial(
        &self,
        partial: &Arc<PartialBlob>,
        from: u64,
        mut before: Option<(Sha256, Digest)>,
    ) -> io::Result<()> {
        let (size, last) = (self.size, self.part.end);
        let most = match self.check {
            Check::Sender => PIECE,
            Check::Receiver => READ_BYTES,
        };
        let mut at = from;
        while at < last {
            let end = partial.readable(at, size).await.map_err(failed)?.min(last).min(at + most as u64);
            // Read only when there is room for a piece.
            let Ok(room) = self.sender.reserve().await else { return Ok(()) };
            let (partial, buffer, count) = (partial.clone(), self.queue.frames.spare(), (end - at) as usize);
            let buffer = blocking(move || partial.read(at, count, buffer)).await?;
            let bytes = self.queue.frames.to_send(buffer, count);
            at = end;
            if let Some((hasher, expected)) = &mut before {
                hasher.update(&bytes);
                if at == size && Digest::finish(hasher.clone()) != *expected {
                    return Err(failed(Failed));
                }
            }
            if !self.send_pieces(room, bytes).await {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send_cached(&self, cached: Arc<CachedBlob>, blob: &Arc<PackedBlob>) -> io::Result<()> {
        let (digest, _) = blob.digest_and_size().expect("blobs are found by their digest");
        let input = Input::Cached(cached, digest);
        let reached = self.send_checked(&input, &blob.prover, digest).await?;
        match reached {
            Reached::End => return Ok(()),
            Reached::Unread => return Err(failed(Failed)),
            Reached::Gap { .. } | Reached::Wrong { .. } => {}
        }
        // The cache entry was evicted, damaged or wrong. Packing yields the right bytes or an error.
        let partial = self.queue.open(blob).map_err(|error| report_failure(self.queue, error))?;
        match reached {
            Reached::Gap { at, .. } | Reached::Wrong { at, .. } if at == self.part.start => {
                self.send_partial(&partial, at, None).await
            }
            Reached::Gap { at, sent } => {
                let before = match sent {
                    Sent::Hashed(hasher) => Some((hasher, digest)),
                    Sent::Proven | Sent::Unproven => None,
                };
                self.send_partial(&partial, at, before).await
            }
            // The sent bytes were wrong. The next client gets the packed layer. Any error of the packing is
            // reported before this client's connection is closed.
            _ => {
                partial.readable(self.size - 1, self.size).await.map_err(failed)?;
                Err(failed(Failed))
            }
        }
    }

    /// Sends a part of a blob that may change while it is read.
    async fn send_checked(
        &self,
        input: &Input,
        prover: &Arc<Prover>,
        expected: Digest,
    ) -> io::Result<Reached> {
        let Self { part, size, check, sender, queue } = self;
        let size = *size;
        match (check, input) {
            (Check::Receiver, Input::Cached(cached, _)) => return self.send_frames(cached).await,
            (Check::Receiver, Input::File(_)) => return self.send_hashed(input, expected).await,
            (Check::Sender, _) => {}
        }
        // Clients resume an aborted download this way. All others get the first bytes at once.
        let proof = match (part.start, part.end == size) {
            (0, true) => prover.known(input),
            (_, false) => prover.last_known(),
            (_, true) => match prover.prove(input, expected, size, &queue.passes).await {
                Ok(proof) => Some(proof),
                Err(unproven) => return Ok(unproven.reached(part.start)),
            },
        };
        let Some(proof) = proof else { return self.send_hashed(input, expected).await };
        let mut at = part.start;
        while at < part.end {
            // Read a piece only when there is room for it.
            let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
            let begin = at - at % PIECE as u64;
            let bytes = match input.proven(begin, size, &proof, queue).await? {
                Piece::Right(bytes) => bytes,
                Piece::Wrong if matches!(input, Input::File(_)) => {
                    // Report the file's current digest.
                    return Ok(match prover.prove(input, expected, size, &queue.passes).await {
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

    /// Sends cached frames. Their checksums are compared before their first bytes are sent.
    async fn send_frames(&self, cached: &Arc<CachedBlob>) -> io::Result<Reached> {
        let Self { part, sender, queue, .. } = self;
        let mut at = part.start;
        while at < part.end {
            // Read a frame only when there is room for its first piece.
            let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
            let (cached, mut buffer) = (cached.clone(), queue.frames.spare());
            let (read, buffer) = blocking(move || Ok((cached.read(at, PIECE, &mut buffer), buffer))).await?;
            let Some(read @ 1..) = read else { return Ok(Reached::Gap { at, sent: Sent::Unproven }) };
            let wanted = usize::try_from(part.end - at).map_or(read, |left| left.min(read));
            at += wanted as u64;
            if !self.send_pieces(room, queue.frames.to_send(buffer, wanted)).await {
                break;
            }
        }
        Ok(Reached::End)
    }

    /// Sends bytes in pieces, so that each is progress. Returns false if the client has gone.
    async fn send_pieces(&self, room: mpsc::Permit<'_, io::Result<Bytes>>, mut bytes: Bytes) -> bool {
        let mut room = Some(room);
        while !bytes.is_empty() {
            let room = match room.take() {
                Some(room) => room,
                None => match self.sender.reserve().await {
                    Ok(room) => room,
                    Err(_) => return false,
                },
            };
            room.send(Ok(bytes.split_to(bytes.len().min(LARGE_PIECE))));
        }
        true
    }

    /// Sends a part of a blob that has no proof: either the whole blob, whose last piece is held back until the
    /// digest is right, or a part without the end.
    async fn send_hashed(&self, input: &Input, expected: Digest) -> io::Result<Reached> {
        let Self { part, size, check, sender, queue } = self;
        let size = *size;
        let mut hasher = (*check == Check::Sender && part.end == size).then(Sha256::new);
        let mut at = part.start;
        while at < part.end {
            // Read a piece only when there is room for it.
            let Ok(room) = sender.reserve().await else { return Ok(Reached::End) };
            let Some((bytes, hashed)) = input.piece(at, part.end - at, hasher.clone(), queue).await? else {
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
}

fn failed(Failed: Failed) -> io::Error {
    io::Error::other("the layer could not be packed")
}

/// Reports why a blob cannot be served completely.
fn report_failure(queue: &PackQueue, error: Error) -> io::Error {
    queue.failures.report(error);
    failed(Failed)
}

/// Extent of the sent part.
enum Reached {
    /// To its end, or until the client was gone.
    End,
    /// Up to the first byte that the cache has lost.
    Gap { at: u64, sent: Sent },
    /// Up to the piece that shows that the blob is wrong.
    Wrong { at: u64, found: Digest },
    /// Up to the first byte that cannot be read, which has been reported, or a file that keeps changing.
    Unread,
}

/// Check of the bytes that were already sent.
enum Sent {
    /// All of them were compared with a proof.
    Proven,
    /// This is their hash.
    Hashed(Sha256),
    /// None: the part does not include the blob's end.
    Unproven,
}

impl Input {
    /// Returns at most `most` bytes from `at`, and the hash that includes them. None if the cache has lost
    /// them.
    async fn piece(
        &self,
        at: u64,
        most: u64,
        hasher: Option<Sha256>,
        queue: &Arc<PackQueue>,
    ) -> io::Result<Option<(Bytes, Option<Sha256>)>> {
        let most = usize::try_from(most).map_or(PIECE, |most| most.min(PIECE));
        match self {
            Self::File(file) => {
                let (file, queue) = (file.clone(), queue.clone());
                let read = move || {
                    let buffer = read_file(&file, at, most, &queue)?;
                    Ok(Some((hasher.map(|hasher| hasher.chain_update(&buffer)), Bytes::from(buffer))))
                };
                Ok(blocking(read).await?.map(|(hasher, bytes)| (bytes, hasher)))
            }
            Self::Cached(cached, digest) => {
                let Some(bytes) = queue.frames.piece(*digest, cached, at, most).await? else {
                    return Ok(None);
                };
                let Some(hasher) = hasher else { return Ok(Some((bytes, None))) };
                let hash = move || Ok(Some((hasher.chain_update(&bytes), bytes)));
                Ok(blocking(hash).await?.map(|(hasher, bytes)| (bytes, Some(hasher))))
            }
        }
    }

    /// Reads the piece at `at` and compares it with the proof.
    async fn proven(
        &self,
        at: u64,
        size: u64,
        proof: &Arc<Proof>,
        queue: &Arc<PackQueue>,
    ) -> io::Result<Piece> {
        let (input, proof, queue) = (self.clone(), proof.clone(), queue.clone());
        blocking(move || {
            let most = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
            let bytes = match &input {
                Self::File(file) => read_file(file, at, most, &queue)?,
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

/// Result of reading a piece.
enum Piece {
    Right(Bytes),
    Wrong,
    /// The cache has lost it.
    Lost,
}

fn read_file(file: &LayerFile, at: u64, count: usize, queue: &PackQueue) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    file.read_exact_at(&mut buffer, at).map_err(|error| report_failure(queue, error.into()))?;
    Ok(buffer)
}

impl Unproven {
    /// Returns how far a client got that has proven bytes up to `at`.
    fn reached(self, at: u64) -> Reached {
        match self {
            Self::Wrong(found) => Reached::Wrong { at, found },
            Self::Gap => Reached::Gap { at, sent: Sent::Proven },
            Self::Unread => Reached::Unread,
        }
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
