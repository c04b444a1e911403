//! One layer from its files to its digests. While a batch of frames is hashed and compressed, the next one is read and
//! the one before is written, each as a rayon task: with one layer and many threads all of them have work, and no
//! thread ever waits for another one's input.

use sha2::{Digest as _, Sha256};

use super::{BlobSink, BlobWriter, Control, LayerPath, PackedLayer};
use crate::compress::{Codec, Compressor, FRAME_BYTES};
use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::tar::{Fill, LayerStream};

/// A frame's buffers, used again and again.
#[derive(Default)]
struct Frame {
    plain: Vec<u8>,
    filled: usize,
    compressed: Vec<u8>,
}

/// Where a blob's bytes go once they are compressed, in order.
struct Output {
    hasher: Sha256,
    size: u64,
    writer: Option<Box<dyn BlobWriter>>,
}

impl Output {
    fn take(&mut self, bytes: &[u8], hashed_already: bool) -> Result<()> {
        if !hashed_already {
            self.hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Ok(()),
        }
    }
}

/// Packs the layer `at`. `width` says how many frames to have in work now.
pub(super) fn pack(
    at: usize,
    paths: &[LayerPath],
    compressor: &Compressor,
    sink: &dyn BlobSink,
    control: &Control<'_>,
    width: &(dyn Fn() -> usize + Sync),
) -> Result<PackedLayer> {
    control.check()?;
    control.progress.layer_started(at, LayerPath::total(paths));
    let plain = compressor.codec() == Codec::None;
    // Uncompressed, frames have no meaning; smaller ones stay in the processor's cache.
    let frame_bytes = if plain { FRAME_BYTES / 4 } else { FRAME_BYTES };
    let mut stream = LayerStream::new(paths, control)?;
    let mut output = Output { hasher: Sha256::new(), size: 0, writer: sink.open(at)? };
    let (mut hasher, mut tar_size) = (Sha256::new(), 0u64);

    let (mut next, mut current, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut filled = read(&mut stream, &mut next, width(), frame_bytes, !plain, control)?;
    let mut current_filled = 0;
    while filled + current_filled > 0 {
        // The finished batch's buffers become the next one's.
        std::mem::swap(&mut last, &mut current);
        std::mem::swap(&mut current, &mut next);
        let last_filled = std::mem::replace(&mut current_filled, filled);
        let batch = width();
        let (read_result, (hash_result, write_result)) = rayon::join(
            || match current_filled {
                0 => Ok(0),
                _ => read(&mut stream, &mut next, batch, frame_bytes, !plain, control),
            },
            || {
                rayon::join(
                    || process(&mut current[..current_filled], &mut hasher, plain, compressor),
                    || {
                        last[..last_filled].iter().try_for_each(|frame: &Frame| match plain {
                            true => output.take(&frame.plain[..frame.filled], true),
                            false => output.take(&frame.compressed, false),
                        })
                    },
                )
            },
        );
        let packed = hash_result?;
        write_result?;
        filled = read_result?;
        tar_size += packed;
        if packed > 0 {
            control.progress.packed(at, packed);
        }
    }
    let diff_id = DiffId::finish(hasher);
    let digest = if plain { diff_id.as_digest() } else { Digest::finish(output.hasher) };
    let packed = PackedLayer { diff_id, tar_size, digest, size: output.size };
    if let Some(writer) = output.writer {
        writer.finish(&packed)?;
    }
    control.progress.layer_finished(at, &packed);
    Ok(packed)
}

/// Reads up to `batch` frames; gives how many.
fn read(
    stream: &mut LayerStream<'_>,
    frames: &mut Vec<Frame>,
    batch: usize,
    frame_bytes: usize,
    split: bool,
    control: &Control<'_>,
) -> Result<usize> {
    if frames.len() < batch {
        frames.resize_with(batch, Frame::default);
    }
    for (at, frame) in frames[..batch].iter_mut().enumerate() {
        control.check()?;
        frame.plain.resize(frame_bytes, 0);
        let (filled, fill) = stream.fill(&mut frame.plain, split)?;
        if fill == Fill::End {
            return Ok(at);
        }
        frame.filled = filled;
    }
    Ok(batch)
}

/// Hashes the frames in order and compresses each; gives how many bytes there were.
fn process(frames: &mut [Frame], hasher: &mut Sha256, plain: bool, compressor: &Compressor) -> Result<u64> {
    use rayon::prelude::*;
    if plain {
        frames.iter().for_each(|frame| hasher.update(&frame.plain[..frame.filled]));
    } else {
        // Readers of the plain bytes only, so both sides may look at once.
        let mut outputs: Vec<(&[u8], &mut Vec<u8>)> =
            frames.iter_mut().map(|frame| (&frame.plain[..frame.filled], &mut frame.compressed)).collect();
        let inputs: Vec<&[u8]> = outputs.iter().map(|(plain, _)| *plain).collect();
        let (result, ()) = rayon::join(
            || outputs.par_iter_mut().try_for_each(|(plain, out)| compressor.frame(plain, out)),
            || inputs.iter().for_each(|plain| hasher.update(plain)),
        );
        result?;
    }
    Ok(frames.iter().map(|frame| frame.filled as u64).sum())
}
