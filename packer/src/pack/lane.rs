//! Packs one layer, from its files to its digests, with three threads: one reads frames ahead, one hashes them and passes
//! them to the pool for compression, one takes the compressed frames in order. If the system provides no threads, the
//! calling thread does all of it. Frames are reused, so their number bounds memory. With one layer and many threads, all
//! threads have work, and the hasher never waits for a directory listing. The hasher matters most: of the steps that cannot
//! run in parallel, it is the slowest.
//!
//! If the cache has the hashers' states after the layer's first segments, hashing resumes there. If the sink does not need
//! the bytes, the packer does not even read those segments.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nixply_oci::{DiffId, Digest};
use sha2::{Digest as _, Sha256};

use super::job::{Job, Shared};
use super::output::Output;
use super::source::{Frame, FrameRange, Source};
use super::states::{Hashed, StateSelection, put_states, resume};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::layer::PackedLayer;

/// Packs a layer. `most_frames` returns the number of frames that the layer may have in flight now.
pub(super) fn pack(
    job: &Job<'_>,
    shared: &Shared<'_>,
    most_frames: &(dyn Fn() -> usize + Sync),
) -> Result<PackedLayer> {
    let Shared { compressor, cache, sink, control, .. } = *shared;
    control.check()?;
    control.progress.layer_started(job.number(), job.expected);
    let codec = compressor.codec();
    let plain = codec == Codec::None;
    let writer = sink.open(job.at)?;
    // If the layer was packed before, the blob's own digest is sufficient proof: it needs no decompression to hash the tar
    // stream.
    let cached = job.known.as_ref().filter(|_| !plain);
    let known = cached.filter(|known| known.proven).map(|known| known.packed);
    let (chains, resumed) = match known {
        Some(_) => (Vec::new(), None),
        None => resume(job, cache),
    };
    let (from, tar, blob) = resumed.unwrap_or((0, (Sha256::new(), 0), (Sha256::new(), 0)));
    let hashed = |from, (hasher, bytes)| Hashed { hasher, bytes, from, states: Vec::new() };
    let tar_from = if known.is_some() { job.pieces.len() } else { from };
    let mut tar = hashed(tar_from, tar);
    let start = if writer.is_some() { 0 } else { from };
    let mut output = Output { hashed: hashed(from, blob), plain, codec, writer, cache, segment: None };
    let wanted = FrameRange { pieces: start..job.pieces.len(), plain_from: tar_from };
    let mut source = Source::new(&job.pieces, wanted, codec, cache, control, shared.check)?;
    let mut selection = StateSelection::new(&chains, tar.bytes);
    let in_a_row = shared.pool.and_then(|pool| {
        let (recycled, empty) = channel();
        let (filled, frames) = channel();
        let (hashed, done) = channel();
        thread::scope(|scope| {
            // The channel for reused frames closes when the taker ends, so the reader does not wait for a taker that has
            // failed.
            let output = &mut output;
            let take = move || take(output, done, recycled, job, shared);
            let taker = thread::Builder::new().spawn_scoped(scope, take).ok()?;
            let source = &mut source;
            let read = move || read(source, &empty, filled, most_frames, &|| shared.check(job.at));
            let reader = thread::Builder::new().spawn_scoped(scope, read).ok()?;
            pool.in_place_scope(|tasks| hash(&mut tar, &mut selection, &frames, hashed, tasks, job, shared));
            // If a thread has failed, the other ones have ended early.
            drop(frames);
            let results = [reader, taker].map(|thread| thread.join());
            let result = |result: thread::Result<Result<()>>| {
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Some(results.into_iter().try_for_each(result))
        })
    });
    // If the system provides no threads, nothing has been read yet.
    in_a_row.unwrap_or_else(|| alone(&mut source, &mut output, &mut tar, &mut selection, job, shared))?;
    output.finish_segment();
    let Output { hashed: blob, writer, .. } = output;
    let states = (tar.states, blob.states);
    let packed = match known {
        Some(known) => PackedLayer { digest: Digest::finish(blob.hasher), size: blob.bytes, ..known },
        None => {
            let diff_id = DiffId::finish(tar.hasher);
            let (digest, size) = match plain {
                true => (diff_id.as_digest(), tar.bytes),
                false => (Digest::finish(blob.hasher), blob.bytes),
            };
            PackedLayer { diff_id, digest, size }
        }
    };
    let as_before = || match cached {
        Some(cached) if cached.packed != packed => Err(Error::LayerChanged {
            expected: Box::new(cached.packed),
            found: Box::new(packed),
            named_by: cached.source.clone(),
            paths: job.pieces.paths().map(|path| path.path.to_string()).collect(),
        }),
        _ => Ok(()),
    };
    let as_recorded = || job.recorded.map_or(Ok(()), |recorded| recorded.check(&packed, codec));
    let accepted = as_before()
        .and_then(|()| as_recorded())
        .and_then(|()| writer.map_or(Ok(()), |writer| writer.finish(&packed)));
    if let Some(cache) = cache {
        match &accepted {
            Ok(()) => {
                put_states(cache, &chains, &states.0, &states.1, plain);
                cache.forget_unchecked_states(chains.iter().map(|(_, chain)| *chain));
            }
            // Either the packed bytes are wrong, or the known digests are: no later build may use either.
            Err(error) if !error.is_io() && !matches!(error, Error::Interrupted) => {
                (0..job.pieces.len())
                    .filter_map(|at| job.pieces.key(at))
                    .for_each(|key| cache.forget_segment(key));
                let recorded = job.recorded;
                let keys = job.pieces.layer_key().into_iter().chain(recorded.and_then(|layer| layer.key));
                keys.for_each(|key| cache.forget_layer(key));
                let cached = cached.map(|cached| cached.packed.diff_id);
                let diff_ids = cached.into_iter().chain(recorded.map(|layer| layer.packed.diff_id));
                diff_ids.for_each(|diff_id| cache.forget_contents(diff_id));
            }
            // The writer could not store the bytes, but they were right.
            Err(_) => {}
        }
    }
    accepted?;
    control.progress.layer_finished(job.number(), &packed);
    Ok(packed)
}

/// Reads, compresses and hashes all frames on this thread, one by one.
fn alone(
    source: &mut Source<'_, '_>,
    output: &mut Output<'_>,
    tar: &mut Hashed,
    selection: &mut StateSelection<'_>,
    job: &Job<'_>,
    shared: &Shared<'_>,
) -> Result<()> {
    let Shared { compressor, control, permits, .. } = *shared;
    let mut frame = Frame::default();
    loop {
        shared.check(job.at)?;
        if !source.fill(&mut frame)? {
            return Ok(());
        }
        let keep = selection.keeps(&frame);
        if compressor.codec() != Codec::None && !frame.from_cache {
            let mut out = std::mem::take(&mut frame.compressed);
            permits.with(|| compressor.frame(frame.plain(), &mut out))?;
            frame.compressed = out;
        }
        if frame.has_plain {
            permits.with(|| tar.update(&frame, frame.plain(), keep));
        }
        permits.with(|| output.take(&frame, keep, job))?;
        control.progress.packed(job.number(), frame.length as u64);
    }
}

/// A frame that has been hashed and is being compressed.
struct Hashing {
    frame: Arc<Frame>,
    /// Whether to store the state of the blob's hasher before this frame.
    keep: bool,
    /// Receives the compressed bytes.
    compressed: Receiver<Result<Vec<u8>>>,
}

/// Reads all frames for the hasher, until `check` fails or the hasher ends.
fn read(
    source: &mut Source<'_, '_>,
    empty: &Receiver<Frame>,
    filled: Sender<Frame>,
    most_frames: &(dyn Fn() -> usize + Sync),
    check: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut made = 0;
    loop {
        check()?;
        let recycled = match empty.try_recv() {
            Ok(frame) => Some(frame),
            Err(_) if made < most_frames() => None,
            Err(_) => match empty.recv() {
                Ok(frame) => Some(frame),
                // The taker has failed, and returns the error.
                Err(_) => return Ok(()),
            },
        };
        made += usize::from(recycled.is_none());
        let mut frame = recycled.unwrap_or_default();
        if !source.fill(&mut frame)? || filled.send(frame).is_err() {
            return Ok(());
        }
    }
}

/// Hashes the plain frames in order, and starts the compression of those that the cache does not have.
fn hash<'s>(
    tar: &mut Hashed,
    selection: &mut StateSelection<'_>,
    frames: &Receiver<Frame>,
    hashed: Sender<Hashing>,
    tasks: &rayon::Scope<'s>,
    job: &Job<'_>,
    shared: &Shared<'s>,
) {
    let Shared { compressor, control, permits, .. } = *shared;
    let plain = compressor.codec() == Codec::None;
    for mut frame in frames.iter() {
        let keep = selection.keeps(&frame);
        let mut out = std::mem::take(&mut frame.compressed);
        let frame = Arc::new(frame);
        let (ready, compressed) = channel();
        if plain || frame.from_cache {
            let _ = ready.send(Ok(out));
        } else {
            let frame = frame.clone();
            tasks.spawn(move |_| {
                let result = permits.with(|| {
                    control.check()?;
                    compressor.frame(frame.plain(), &mut out)
                });
                // The taker needs the only reference to the frame.
                drop(frame);
                let _ = ready.send(result.map(|()| out));
            });
        }
        if frame.has_plain {
            permits.with(|| tar.update(&frame, frame.plain(), keep));
        }
        let length = frame.length as u64;
        if hashed.send(Hashing { frame, keep, compressed }).is_err() {
            return;
        }
        control.progress.packed(job.number(), length);
    }
}

/// Takes the compressed frames in order, and returns their buffers to the reader.
fn take(
    output: &mut Output<'_>,
    done: Receiver<Hashing>,
    recycled: Sender<Frame>,
    job: &Job<'_>,
    shared: &Shared<'_>,
) -> Result<()> {
    for Hashing { frame, keep, compressed } in done {
        let compressed = compressed.recv().expect("a task that compresses sends its result, or panics")?;
        let mut frame = Arc::into_inner(frame).expect("the hasher and the compressor have dropped the frame");
        frame.compressed = compressed;
        shared.permits.with(|| output.take(&frame, keep, job))?;
        let _ = recycled.send(frame);
    }
    Ok(())
}
