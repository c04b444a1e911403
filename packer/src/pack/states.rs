//! The hashers of a layer's two streams, tar and blob: where hashing can be resumed from what the cache remembers, and which of
//! their states are worth remembering.

use sha2::{Digest as _, Sha256};

use super::job::Job;
use super::source::Frame;
use crate::cache::{Cache, Chain, State};

/// How many plain bytes lie between two states that are remembered, at least: hashing as many takes some ten
/// milliseconds, about as long as some hundred look-ups.
const STATE_BYTES: u64 = 32 << 20;

/// A hasher and what it has seen.
pub(super) struct Hashed {
    pub(super) hasher: Sha256,
    pub(super) bytes: u64,
    /// The first part that it has to see.
    pub(super) from: usize,
    /// States just before the part of this number.
    pub(super) states: Vec<(usize, State)>,
}

impl Hashed {
    /// Sees a frame of the part `piece`; before its first frame the state is kept if `keep` says so.
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

/// A part to go on with, and the hashers of the tar stream and of the blob before it, each with how much it has seen.
pub(super) type Resumed = (usize, (Sha256, u64), (Sha256, u64));

/// The layer's chains, and the furthest one whose states are known: the part to go on with, and both hashers.
pub(super) fn resume(job: &Job<'_>, cache: Option<&Cache>) -> (Vec<(usize, Chain)>, Option<Resumed>) {
    let Some(cache) = cache else { return (Vec::new(), None) };
    let chains = job.pieces.chains();
    let found = chains.iter().rev().find_map(|(piece, chain)| {
        let (tar, blob) = cache.states(*chain)?;
        Some((*piece, (tar.hasher()?, tar.bytes), (blob.hasher()?, blob.bytes)))
    });
    (chains, found)
}

/// Pairs both hashers' states and remembers them.
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

/// Decides before which parts the hashers' states are worth remembering.
pub(super) struct Worth<'c> {
    chains: &'c [(usize, Chain)],
    seen: u64,
    kept: u64,
}

impl<'c> Worth<'c> {
    pub(super) fn new(chains: &'c [(usize, Chain)], seen: u64) -> Self {
        Self { chains, seen, kept: seen }
    }

    /// Whether the states before this frame are, the next one in order.
    pub(super) fn is_kept(&mut self, frame: &Frame) -> bool {
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
