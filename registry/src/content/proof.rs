//! Proofs of a blob's content: hashes of its pieces, from one pass that found the right digest.
//!
//! With a proof, the server compares every byte before it sends it, however small the requested part, and
//! need not hash the bytes before that part again. A pass reads the whole blob. Clients that need a proof at
//! the same time wait for the same pass, so a stalled client does not delay others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nixply_oci::Digest;
use nixply_packer::CachedBlob;
use nixply_packer::image::{FileState, LayerFile};
use sha2::{Digest as _, Sha256};

use super::failures::Failures;
use super::frames::PIECE;
use crate::error::Result;

/// Maximum number of concurrent passes over different blobs.
const MAX_PASSES: usize = 4;

/// A file that was written this recently may change again without a new timestamp: Linux's clock for files
/// ticks at least 100 times a second. A proof of such a file serves only the clients that waited for it.
const YOUNG: Duration = Duration::from_millis(100);

/// The limit on concurrent passes, and the receiver of their errors.
pub(crate) struct Passes {
    limit: tokio::sync::Semaphore,
    failures: Failures,
}

impl Passes {
    pub(crate) fn new(failures: Failures) -> Arc<Self> {
        Arc::new(Self { limit: tokio::sync::Semaphore::new(MAX_PASSES), failures })
    }
}

/// A blob that may change while it is read.
#[derive(Clone)]
pub(crate) enum Input {
    File(Arc<LayerFile>),
    Cached(Arc<CachedBlob>, Digest),
}

/// Hashes of the pieces of a blob with the right digest. All pieces but the last have [`PIECE`] bytes.
#[derive(Debug)]
pub(crate) struct Proof {
    pieces: Vec<blake3::Hash>,
    /// The file's state when the pass began.
    state: Option<FileState>,
    is_young: bool,
}

/// Reason why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// The blob has another digest.
    Wrong(Digest),
    /// The cache has lost a part of the blob.
    Gap,
    /// The file cannot be read, which has been reported, or the server stops.
    Unread,
}

/// Results of the passes over one blob.
#[derive(Debug, Default)]
pub(crate) struct Prover {
    pass: tokio::sync::Mutex<()>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Number of passes that have ended.
    passes: u64,
    last: Option<Result<Arc<Proof>, Unproven>>,
    /// The last proof. The hashes of its pieces stay true when the file changes.
    proof: Option<Arc<Proof>>,
}

impl Proof {
    /// Returns whether these bytes are the blob's bytes from `at`, a multiple of [`PIECE`].
    pub(crate) fn has(&self, at: u64, piece: &[u8]) -> bool {
        let number = usize::try_from(at / PIECE as u64).ok();
        number.and_then(|number| self.pieces.get(number)).is_some_and(|known| *known == blake3::hash(piece))
    }

    /// Returns whether the proof is of a file in this state.
    fn fits(&self, state: Option<FileState>) -> bool {
        self.state == state
    }
}

impl Prover {
    /// Returns the proof, unless the file has been written to since.
    pub(crate) fn known(&self, input: &Input) -> Option<Arc<Proof>> {
        let proof = self.last_known().filter(|proof| !proof.is_young)?;
        proof.fits(input.state().ok()?).then_some(proof)
    }

    /// Returns the last proof, even if the file has been written to since.
    pub(crate) fn last_known(&self) -> Option<Arc<Proof>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).proof.clone()
    }

    /// Returns the proof. If there is none or it is outdated, starts a pass or waits for the running one.
    pub(crate) async fn prove(
        self: &Arc<Self>,
        input: &Input,
        expected: Digest,
        size: u64,
        passes: &Arc<Passes>,
    ) -> Result<Arc<Proof>, Unproven> {
        if let Some(proof) = self.known(input) {
            return Ok(proof);
        }
        let ended = || self.found.lock().unwrap_or_else(PoisonError::into_inner).passes;
        let before = ended();
        // A separate task: a client that goes away must not end a pass that others wait for.
        let (prover, input, allowed) = (self.clone(), input.clone(), passes.clone());
        let task = tokio::spawn(async move {
            let _alone = prover.pass.lock().await;
            if let Some(found) = prover.found_since(before, &input) {
                return found;
            }
            let _one_of_few = allowed.limit.acquire().await.map_err(|_| Unproven::Unread)?;
            let stop = allowed.failures.stop.clone();
            let pass = move || pass(&input, expected, size, &stop);
            let found = tokio::task::spawn_blocking(pass).await.unwrap_or(Ok(Err(Unproven::Unread)));
            let found = found.unwrap_or_else(|error| {
                allowed.failures.report(error);
                Err(Unproven::Unread)
            });
            let mut all = prover.found.lock().unwrap_or_else(PoisonError::into_inner);
            all.passes += 1;
            all.last = Some(found.clone());
            all.proof = found.as_ref().ok().cloned().or(all.proof.take());
            found
        });
        task.await.unwrap_or(Err(Unproven::Unread))
    }

    /// Returns the result of a pass that ended after `before` others. A blob that was wrong a moment ago may
    /// be refused; a blob that was right needs a new pass if its file has been written to.
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
    /// Returns the file's current state. None for a cached blob, whose bytes have separate checksums.
    fn state(&self) -> Result<Option<FileState>> {
        match self {
            Self::File(file) => Ok(Some(file.state()?)),
            Self::Cached(..) => Ok(None),
        }
    }
}

/// Reads the whole blob, and proves it if its digest is right.
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
                &buffer[..]
            }
            Input::Cached(cached, _) => match cached.read(at, PIECE, &mut buffer) {
                Some(read @ 1..) => &buffer[..read],
                _ => return Ok(Err(Unproven::Gap)),
            },
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

/// Hashes the pieces of the added bytes.
#[derive(Default)]
struct Pieces {
    hashes: Vec<blake3::Hash>,
    hasher: blake3::Hasher,
    /// Number of bytes in the current piece.
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
    fn piece_hashes_do_not_depend_on_the_chunks() {
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
