//! Hash states of a layer's two streams, tar and blob. Hashing resumes at a state that the cache has. New states are stored if they
//! save enough hashing.

use sha2::{Digest as _, Sha256};

use super::job::Job;
use super::source::Frame;
use crate::cache::{Cache, Chain, State};

/// Minimum number of plain bytes between two stored states. Hashing them takes about ten milliseconds, as long as a few
/// hundred look-ups.
const STATE_BYTES: u64 = 32 << 20;

/// A hasher, with the number of bytes that it has hashed.
pub(super) struct Hashed {
    pub(super) hasher: Sha256,
    pub(super) bytes: u64,
    /// Number of the first part to hash.
    pub(super) from: usize,
    /// States with the number of the part that follows each.
    pub(super) states: Vec<(usize, State)>,
}

impl Hashed {
    /// Hashes a frame of the part `frame.piece`. Stores the state before the frame if `keep` is true. Ignores parts before
    /// `from`.
    pub(super) fn update(&mut self, frame: &Frame, bytes: &[u8], keep: bool) {
        if frame.piece < self.from {
            return;
        }
        if keep {
            self.states.push((frame.piece, State::of(&self.hasher, self.bytes)));
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// Number of the part to resume with, then the hashers of the tar stream and of the blob up to that part, each with the
/// number of bytes that it has hashed.
pub(super) type Resumed = (usize, (Sha256, u64), (Sha256, u64));

/// Returns the layer's chains, and the furthest point at which the cache has both hashers' states.
pub(super) fn resume(job: &Job<'_>, cache: Option<&Cache>) -> (Vec<(usize, Chain)>, Option<Resumed>) {
    let Some(cache) = cache else { return (Vec::new(), None) };
    let chains = job.pieces.chains();
    let found = chains.iter().rev().find_map(|(piece, chain)| {
        let (tar, blob) = cache.states(*chain)?;
        Some((*piece, (tar.hasher()?, tar.bytes), (blob.hasher()?, blob.bytes)))
    });
    (chains, found)
}

/// Pairs both hashers' states by part and stores them.
pub(super) fn put_states(
    cache: &Cache,
    chains: &[(usize, Chain)],
    tar: &[(usize, State)],
    blob: &[(usize, State)],
    plain: bool,
) {
    for (piece, tar) in tar {
        let blob =
            if plain { Some(tar) } else { blob.iter().find(|(at, _)| at == piece).map(|(_, state)| state) };
        let chain = chains.iter().find(|(at, _)| at == piece);
        if let Some(((_, chain), blob)) = chain.zip(blob) {
            cache.put_states(*chain, &(tar.clone(), blob.clone()));
        }
    }
}

/// Selects the parts before which the hashers' states are worth storing.
pub(super) struct StateSelection<'c> {
    chains: &'c [(usize, Chain)],
    seen: u64,
    kept: u64,
}

impl<'c> StateSelection<'c> {
    pub(super) fn new(chains: &'c [(usize, Chain)], seen: u64) -> Self {
        Self { chains, seen, kept: seen }
    }

    /// Returns whether to store the states before this frame. Call it for each frame in order.
    pub(super) fn keeps(&mut self, frame: &Frame) -> bool {
        let kept = frame.first
            && self.seen - self.kept >= STATE_BYTES
            && self.chains.iter().any(|(at, _)| *at == frame.piece);
        if kept {
            self.kept = self.seen;
        }
        self.seen += frame.length as u64;
        kept
    }
}
