//! Proofs that a blob is right: hashes of its pieces, from one pass that has found the blob's digest right.
//!
//! With a proof, a reader gets no byte that has not been compared with it, however small the part is that it asks for, and the
//! bytes before that part need not be hashed again. A pass reads the whole blob. Readers who want a proof at the same time wait
//! for the same pass, so those who stall cost others nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nixply_packer::digest::Digest;
use nixply_packer::image::layer_file::{FileState, LayerFile};
use nixply_packer::pack::CachedBlob;
use sha2::{Digest as _, Sha256};

use super::pump::PIECE;
use super::workshop::Workshop;
use crate::error::Result;

/// Passes at once, over different blobs.
pub(super) const MOST_PASSES: usize = 4;

/// A file that was written so short a time ago may be written again without another time stamp: Linux's clock for files
/// ticks 100 times a second at least. Its proof serves those who have waited for it.
const YOUNG: Duration = Duration::from_millis(100);

/// What others could change while it is read.
#[derive(Clone)]
pub(super) enum Input {
    File(Arc<LayerFile>),
    Cached(Arc<CachedBlob>, Digest),
}

/// Hashes of a right blob's pieces, each of [`PIECE`] bytes but the last.
#[derive(Debug)]
pub(super) struct Proof {
    pieces: Vec<blake3::Hash>,
    /// The file's state when the pass began.
    state: Option<FileState>,
    is_young: bool,
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    /// The blob has another digest.
    Wrong(Digest),
    /// The cache does not have all of the blob any more.
    Gap,
    /// The file cannot be read, or the server stops. The owner has been told.
    Unread,
}

/// What has been found out about one blob.
#[derive(Debug, Default)]
pub(super) struct Proving {
    pass: tokio::sync::Mutex<()>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// How many passes have ended.
    passes: u64,
    last: Option<Result<Arc<Proof>, Unproven>>,
    /// The last proof. What its pieces are stays true, whatever the file has become.
    proof: Option<Arc<Proof>>,
}

impl Proof {
    /// Whether these bytes are the blob's from `at` on, which is a multiple of [`PIECE`].
    pub(super) fn has(&self, at: u64, piece: &[u8]) -> bool {
        let number = usize::try_from(at / PIECE as u64).ok();
        number.and_then(|number| self.pieces.get(number)).is_some_and(|known| *known == blake3::hash(piece))
    }

    /// Whether the proof is of a file in this state.
    fn fits(&self, state: Option<FileState>) -> bool {
        self.state == state
    }
}

impl Proving {
    /// The proof, if there is one, and the file has not been written to since.
    pub(super) fn known(&self, input: &Input) -> Option<Arc<Proof>> {
        let proof = self.last_known().filter(|proof| !proof.is_young)?;
        proof.fits(input.state().ok()?).then_some(proof)
    }

    /// The last proof, also where the file has been written to since.
    pub(super) fn last_known(&self) -> Option<Arc<Proof>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).proof.clone()
    }

    /// The proof. Where there is none, or none any more, makes one, or waits for the one that is being made.
    pub(super) async fn prove(
        self: &Arc<Self>,
        input: &Input,
        expected: Digest,
        size: u64,
        workshop: &Arc<Workshop>,
    ) -> Result<Arc<Proof>, Unproven> {
        if let Some(proof) = self.known(input) {
            return Ok(proof);
        }
        let passes = || self.found.lock().unwrap_or_else(PoisonError::into_inner).passes;
        let before = passes();
        // A task of its own: readers that go away do not end what others wait for.
        let (proving, input, workshop) = (self.clone(), input.clone(), workshop.clone());
        let task = tokio::spawn(async move {
            let _alone = proving.pass.lock().await;
            if let Some(found) = proving.found_since(before, &input) {
                return found;
            }
            let _one_of_few = workshop.passes.acquire().await.map_err(|_| Unproven::Unread)?;
            let stop = workshop.stop.clone();
            let pass = move || pass(&input, expected, size, &stop);
            let found = tokio::task::spawn_blocking(pass).await.unwrap_or(Ok(Err(Unproven::Unread)));
            let found = found.unwrap_or_else(|error| {
                workshop.report(&error);
                Err(Unproven::Unread)
            });
            let mut all = proving.found.lock().unwrap_or_else(PoisonError::into_inner);
            all.passes += 1;
            all.last = Some(found.clone());
            all.proof = found.as_ref().ok().cloned().or(all.proof.take());
            found
        });
        task.await.unwrap_or(Err(Unproven::Unread))
    }

    /// What a pass has found that ended after `before` others. That a blob was wrong a moment ago is enough to refuse it; that
    /// it was right is not, once its file has been written to.
    fn found_since(&self, before: u64, input: &Input) -> Option<Result<Arc<Proof>, Unproven>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let last = found.last.clone().filter(|_| found.passes > before)?;
        match &last {
            Ok(proof) if !proof.fits(input.state().ok()?) => None,
            _ => Some(last),
        }
    }
}

impl Input {
    /// The file's state now; none where each byte is compared with the cache's own checksums.
    fn state(&self) -> Result<Option<FileState>> {
        match self {
            Self::File(file) => Ok(Some(file.state()?)),
            Self::Cached(..) => Ok(None),
        }
    }
}

/// Reads a blob to its end.
fn pass(
    input: &Input,
    expected: Digest,
    size: u64,
    stop: &AtomicBool,
) -> Result<Result<Arc<Proof>, Unproven>> {
    let state = input.state()?;
    let is_young = state.is_some_and(|state| {
        let age = SystemTime::now().duration_since(UNIX_EPOCH + state.changed());
        age.is_ok_and(|age| age < YOUNG)
    });
    let (mut whole, mut piece) = (Sha256::new(), Pieces::default());
    let (mut at, mut buffer) = (0, Vec::new());
    while at < size {
        if stop.load(Ordering::Relaxed) {
            return Ok(Err(Unproven::Unread));
        }
        let bytes = match input {
            Input::File(file) => {
                buffer.resize(usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE)), 0);
                file.read_exact_at(&mut buffer, at)?;
                &buffer
            }
            Input::Cached(cached, _) => {
                let Some(bytes) = cached.read(at, PIECE).filter(|bytes| !bytes.is_empty()) else {
                    return Ok(Err(Unproven::Gap));
                };
                buffer = bytes;
                &buffer
            }
        };
        whole.update(bytes);
        piece.add(bytes);
        at += bytes.len() as u64;
    }
    let found = Digest::finish(whole);
    if found != expected {
        return Ok(Err(Unproven::Wrong(found)));
    }
    Ok(Ok(Arc::new(Proof { pieces: piece.end(), state, is_young })))
}

/// Hashes of the pieces of what is added.
#[derive(Default)]
struct Pieces {
    hashes: Vec<blake3::Hash>,
    hasher: blake3::Hasher,
    /// Bytes of the piece that is hashed now.
    count: usize,
}

impl Pieces {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE - self.count));
            self.hasher.update(part);
            (self.count, bytes) = (self.count + part.len(), rest);
            if self.count == PIECE {
                self.next();
            }
        }
    }

    fn next(&mut self) {
        self.hashes.push(self.hasher.finalize());
        self.hasher.reset();
        self.count = 0;
    }

    fn end(mut self) -> Vec<blake3::Hash> {
        if self.count > 0 {
            self.next();
        }
        self.hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_however_their_bytes_come() {
        let bytes: Vec<u8> = (0..3 * PIECE as u32 + 5).map(|at| (at % 251) as u8).collect();
        let expected: Vec<_> = bytes.chunks(PIECE).map(blake3::hash).collect();
        for count in [1, 1000, PIECE - 1, PIECE, PIECE + 1, bytes.len()] {
            let mut pieces = Pieces::default();
            bytes.chunks(count).for_each(|chunk| pieces.add(chunk));
            assert_eq!(pieces.end(), expected, "{count}");
        }
        assert!(Pieces::default().end().is_empty());
    }
}
