//! One layer from its files to its digests. While a batch of frames is hashed and compressed, the next one is read and
//! the one before is written, each as a rayon task: with one layer and many threads all of them have work, and no
//! thread ever waits for another one's input.
//!
//! Where the cache has the hashers' states after the layer's first segments, hashing resumes there. If nobody wants the
//! bytes, what comes before is not even read.

use sha2::{Digest as _, Sha256};

use super::source::{Frame, Source, Wanted};
use super::{BlobWriter, Control, Job, PackedLayer, Shared};
use crate::cache::{Cache, Chain, SegmentWriter, State};
use crate::compress::{Codec, Compressor};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};

/// How many plain bytes lie between two states that are remembered, at least: hashing as many takes some ten
/// milliseconds, about as long as some hundred look-ups.
const STATE_BYTES: u64 = 32 << 20;

/// A hasher and what it has seen.
struct Hashed {
    hasher: Sha256,
    bytes: u64,
    /// The first part that it has to see.
    from: usize,
    /// States just before the part of this number.
    states: Vec<(usize, State)>,
}

impl Hashed {
    /// Sees a frame of the part `piece`; before its first frame the state is kept if `keep` says so.
    fn update(&mut self, frame: &Frame, bytes: &[u8], keep: bool) {
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

/// Where a blob's bytes go once they are compressed, in order: hasher, taker, cache.
struct Output<'c> {
    hashed: Hashed,
    /// Whether blobs are the plain bytes, which have been hashed already.
    plain: bool,
    writer: Option<Box<dyn BlobWriter>>,
    cache: Option<&'c Cache>,
    segment: Option<(usize, SegmentWriter)>,
}

impl Output<'_> {
    fn take(&mut self, frame: &Frame, keep: bool, job: &Job<'_>) -> Result<()> {
        let bytes = if self.plain { frame.plain() } else { &frame.compressed[..] };
        if !self.plain {
            self.hashed.update(frame, bytes, keep);
            self.remember(frame, job);
        }
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Ok(()),
        }
    }

    /// Puts a frame that has just been made into the cache.
    fn remember(&mut self, frame: &Frame, job: &Job<'_>) {
        if self.segment.as_ref().is_some_and(|(piece, _)| *piece != frame.piece) {
            self.finish_segment();
        }
        if !frame.from_cache {
            if frame.first {
                let known = self.cache.zip(job.pieces.key(frame.piece));
                let writer = known.and_then(|(cache, key)| cache.new_segment(key));
                self.segment = writer.map(|writer| (frame.piece, writer));
            }
            self.segment = self
                .segment
                .take()
                .and_then(|(piece, writer)| Some((piece, writer.add(frame.length, &frame.compressed)?)));
        }
    }

    fn finish_segment(&mut self) {
        // A cache that cannot be written makes the next build slower, no more.
        let _ = self.segment.take().and_then(|(_, writer)| writer.finish());
    }
}

/// Packs a layer. `width` says how many frames to have in work now.
pub(super) fn pack(
    job: &Job<'_>,
    shared: &Shared<'_>,
    width: &(dyn Fn() -> usize + Sync),
) -> Result<PackedLayer> {
    let Shared { compressor, cache, sink, control } = *shared;
    control.check()?;
    control.progress.layer_started(job.at, job.expected);
    let codec = compressor.codec();
    let plain = codec == Codec::None;
    let writer = sink.open(job.at)?;
    // With the result known, the blob's own digest is proof enough: nothing need be decompressed to be hashed.
    let known = job.known.filter(|_| !plain);
    let (chains, resumed) = match known {
        Some(_) => (Vec::new(), None),
        None => resume(job, cache),
    };
    let (from, tar, blob) = resumed.unwrap_or((0, (Sha256::new(), 0), (Sha256::new(), 0)));
    let hashed = |from, (hasher, bytes)| Hashed { hasher, bytes, from, states: Vec::new() };
    let tar_from = if known.is_some() { job.pieces.len() } else { from };
    let mut tar = hashed(tar_from, tar);
    let start = if writer.is_some() { 0 } else { from };
    let mut output = Output { hashed: hashed(from, blob), plain, writer, cache, segment: None };
    let wanted = Wanted { pieces: start..job.pieces.len(), plain_from: tar_from };
    let mut source = Source::new(&job.pieces, wanted, codec, cache, control);
    let mut worth = Worth::new(&chains, tar.bytes);

    let (mut next, mut current, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut filled = read(&mut source, &mut next, width())?;
    let mut current_filled = 0;
    let mut kept: Vec<usize> = Vec::new();
    while filled + current_filled > 0 {
        // The finished batch's buffers become the next one's.
        std::mem::swap(&mut last, &mut current);
        std::mem::swap(&mut current, &mut next);
        let last_filled = std::mem::replace(&mut current_filled, filled);
        let batch = width();
        let keep_now = worth.choose(&current[..current_filled]);
        let keep_last = std::mem::replace(&mut kept, keep_now.clone());
        let (read_result, (hash_result, write_result)) = rayon::join(
            || match current_filled {
                0 => Ok(0),
                _ => read(&mut source, &mut next, batch),
            },
            || {
                rayon::join(
                    || process(&mut current[..current_filled], &mut tar, compressor, control, &keep_now),
                    || {
                        last[..last_filled].iter().try_for_each(|frame: &Frame| {
                            output.take(frame, frame.first && keep_last.contains(&frame.piece), job)
                        })
                    },
                )
            },
        );
        hash_result?;
        write_result?;
        filled = read_result?;
        let packed: u64 = current[..current_filled].iter().map(|frame| frame.length as u64).sum();
        if packed > 0 {
            control.progress.packed(job.at, packed);
        }
    }
    output.finish_segment();
    let Output { hashed: blob, writer, .. } = output;
    let states = (tar.states, blob.states);
    let packed = match known {
        Some(known) => PackedLayer { digest: Digest::finish(blob.hasher), size: blob.bytes, ..known },
        None => {
            let (tar_size, diff_id) = (tar.bytes, DiffId::finish(tar.hasher));
            let (digest, size) = match plain {
                true => (diff_id.as_digest(), tar_size),
                false => (Digest::finish(blob.hasher), blob.bytes),
            };
            PackedLayer { diff_id, tar_size, digest, size }
        }
    };
    let as_before = || match known {
        Some(known) if known.digest != packed.digest => Err(Error::LayerChanged {
            expected: known.digest,
            found: packed.digest,
            paths: job.pieces.paths().map(|path| path.path.to_string()).collect(),
        }),
        _ => Ok(()),
    };
    let accepted = as_before().and_then(|()| writer.map_or(Ok(()), |writer| writer.finish(&packed)));
    if let Some(cache) = cache {
        match &accepted {
            Ok(()) => put_states(cache, &chains, &states.0, &states.1, plain),
            // What has just been made of these paths is not what it should be: nobody else shall get it.
            Err(_) => (0..job.pieces.len())
                .filter_map(|at| job.pieces.key(at))
                .for_each(|key| cache.forget_segment(key)),
        }
    }
    accepted?;
    control.progress.layer_finished(job.at, &packed);
    Ok(packed)
}

type Resumed = (usize, (Sha256, u64), (Sha256, u64));

/// The layer's chains, and the furthest one whose states are known: the part to go on with, and both hashers.
fn resume(job: &Job<'_>, cache: Option<&Cache>) -> (Vec<(usize, Chain)>, Option<Resumed>) {
    let Some(cache) = cache else { return (Vec::new(), None) };
    let chains = job.pieces.chains();
    let found = chains.iter().rev().find_map(|(piece, chain)| {
        let (tar, blob) = cache.states(*chain)?;
        Some((*piece, (tar.hasher()?, tar.bytes), (blob.hasher()?, blob.bytes)))
    });
    (chains, found)
}

/// Pairs both hashers' states and remembers them.
fn put_states(
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
struct Worth<'c> {
    chains: &'c [(usize, Chain)],
    seen: u64,
    kept: u64,
}

impl<'c> Worth<'c> {
    fn new(chains: &'c [(usize, Chain)], seen: u64) -> Self {
        Self { chains, seen, kept: seen }
    }

    /// Those that begin in this batch.
    fn choose(&mut self, frames: &[Frame]) -> Vec<usize> {
        let mut chosen = Vec::new();
        for frame in frames {
            if frame.first
                && self.seen - self.kept >= STATE_BYTES
                && self.chains.iter().any(|(at, _)| *at == frame.piece)
            {
                chosen.push(frame.piece);
                self.kept = self.seen;
            }
            self.seen += frame.length as u64;
        }
        chosen
    }
}

/// Reads up to `batch` frames; gives how many.
fn read(source: &mut Source<'_, '_>, frames: &mut Vec<Frame>, batch: usize) -> Result<usize> {
    if frames.len() < batch {
        frames.resize_with(batch, Frame::default);
    }
    for (at, frame) in frames[..batch].iter_mut().enumerate() {
        if !source.fill(frame)? {
            return Ok(at);
        }
    }
    Ok(batch)
}

/// Hashes the plain frames in order and compresses those that the cache did not have.
fn process(
    frames: &mut [Frame],
    tar: &mut Hashed,
    compressor: &Compressor,
    control: &Control<'_>,
    keep: &[usize],
) -> Result<()> {
    use rayon::prelude::*;
    if compressor.codec() == Codec::None {
        for frame in frames.iter() {
            tar.update(frame, frame.plain(), frame.first && keep.contains(&frame.piece));
        }
        return Ok(());
    }
    // The compressors write beside what the hasher reads: each frame's two sides are apart.
    let mut compressed: Vec<Vec<u8>> =
        frames.iter_mut().map(|frame| std::mem::take(&mut frame.compressed)).collect();
    let (result, ()) = rayon::join(
        || {
            let fresh =
                frames.par_iter().zip(compressed.par_iter_mut()).filter(|(frame, _)| !frame.from_cache);
            fresh
                .map(|(frame, out)| control.check().and_then(|()| compressor.frame(frame.plain(), out)))
                .collect::<Result<()>>()
        },
        || {
            for frame in frames.iter().filter(|frame| frame.has_plain) {
                tar.update(frame, frame.plain(), frame.first && keep.contains(&frame.piece));
            }
        },
    );
    frames.iter_mut().zip(compressed).for_each(|(frame, out)| frame.compressed = out);
    result
}
