//! Layers that are kept in files, as other tools compressed them: their tar streams, and their conversion to another codec.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use nixply_files::scratch;
use nixply_oci::{DiffId, Digest};
use nixply_planning::Store;
use sha2::{Digest as _, Sha256};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::layer_file::LayerFile;
use super::spec::{ImageSpec, Layer};
use crate::compress::{Codec, Compressor, FRAME_BYTES};
use crate::control::Control;
use crate::error::{Error, Result};

/// Opens a layer's file and returns its tar stream. The file's first bytes determine the codec: media types of other tools
/// are sometimes wrong, and engines also look at the bytes.
pub(crate) fn tar_stream<'c>(
    layer: impl Into<Arc<LayerFile>>,
    control: &'c Control<'_>,
) -> Result<Box<dyn Read + 'c>> {
    let layer = layer.into();
    let mut magic = vec![0; usize::try_from(layer.size()).map_or(4, |size| size.min(4))];
    layer.read_exact_at(&mut magic, 0)?;
    let codec = match magic[..] {
        [0x1f, 0x8b, ..] => Some(Codec::Gzip { level: 1 }),
        // A frame, or a skippable frame, with which estargz and other formats begin.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Some(Codec::Zstd { level: 1 }),
        _ => None,
    };
    let input = Interruptible { layer, at: 0, control };
    Ok(match codec {
        Some(Codec::Gzip { .. }) => Box::new(MultiGzDecoder::new(BufReader::new(input))),
        Some(Codec::Zstd { .. }) => Box::new(Zstd::new(input)),
        _ => Box::new(input),
    })
}

/// Returns `spec` for a target that does not support zstd: layers that are kept in zstd are converted to `codec`, in files
/// in `folder`. The diff_ids stay the same, and so does the config.
pub fn without_zstd(
    spec: ImageSpec,
    store: &Store,
    codec: Codec,
    folder: &Path,
    control: &Control<'_>,
) -> Result<ImageSpec> {
    let convert = |layer: Layer| {
        let from = layer.layer_path.as_deref().filter(|_| is_to_convert(&layer, codec));
        let Some(from) = from else { return Ok(layer) };
        let from = LayerFile::open(from, store)?;
        let failed = |source| Error::io("write blob", folder, source);
        let mut file = scratch::file(folder)?;
        let (digest, size) =
            convert(from, &layer, codec, control, |bytes| file.write_all(bytes).map_err(failed))?;
        let place = folder.join(digest.hex());
        scratch::keep(file, &place)?;
        let text =
            place.to_str().ok_or_else(|| Error::invalid(place.display().to_string(), "it is not UTF-8"))?;
        let (layer_path, media_type) = (Some(text.to_owned()), codec.media_type().to_owned());
        Ok(Layer { digest, size, layer_path, media_type, ..layer })
    };
    let layers = spec.layers.into_iter().map(convert).collect::<Result<_>>()?;
    Ok(ImageSpec { layers, ..spec })
}

/// Returns whether a layer is kept in a file compressed with zstd.
pub fn is_kept_in_zstd(layer: &Layer) -> bool {
    layer.layer_path.is_some() && layer.encoding() == "zstd"
}

/// Returns whether `layer` is kept in zstd and `codec` is a different one.
pub(super) fn is_to_convert(layer: &Layer, codec: Codec) -> bool {
    is_kept_in_zstd(layer) && !matches!(codec, Codec::Zstd { .. })
}

/// Compresses a layer's file with `codec`, in frames like the packer's. Fails if the content does not match the layer's
/// diff_id. Returns the digest and size of the bytes passed to `write`.
///
/// # Errors
///
/// The file cannot be read or decompressed, it has other content, or `write` fails.
pub fn convert(
    file: impl Into<Arc<LayerFile>>,
    layer: &Layer,
    codec: Codec,
    control: &Control<'_>,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(Digest, u64)> {
    let file = file.into();
    let path = file.path().to_owned();
    let mut stream = tar_stream(file, control)?;
    let compressor = Compressor::new(codec);
    let (mut plain, mut blob, mut size) = (Sha256::new(), Sha256::new(), 0);
    let (mut frame, mut compressed) = (Vec::new(), Vec::new());
    loop {
        frame.clear();
        let read = stream.by_ref().take(FRAME_BYTES as u64).read_to_end(&mut frame);
        control.check()?;
        read.map_err(|source| Error::io("decompress the layer", &path, source))?;
        if frame.is_empty() {
            break;
        }
        plain.update(&frame);
        compressor.frame(&frame, &mut compressed)?;
        blob.update(&compressed);
        size += compressed.len() as u64;
        write(&compressed)?;
    }
    let found = DiffId::finish(plain);
    if found != layer.diff_id {
        let why = format!("its content is {found}, but the image spec records {}", layer.diff_id);
        return Err(Error::invalid(format!("layer file {}", path.display()), why));
    }
    Ok((Digest::finish(blob), size))
}

/// A file that fails to read once the caller asks to stop.
struct Interruptible<'c, 'p> {
    layer: Arc<LayerFile>,
    at: u64,
    control: &'c Control<'p>,
}

impl Read for Interruptible<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.control.check().map_err(io::Error::other)?;
        let read = self.layer.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Decompresses zstd frames.
struct Zstd<R> {
    input: R,
    buffer: Vec<u8>,
    /// Range of bytes in the buffer that are not decompressed yet.
    rest: std::ops::Range<usize>,
    context: DCtx<'static>,
    /// Whether the last frame is complete.
    between: bool,
}

impl<R> Zstd<R> {
    fn new(input: R) -> Self {
        let buffer = vec![0; DCtx::in_size()];
        Self { input, buffer, rest: 0..0, context: DCtx::create(), between: true }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let mut at_end = false;
            if self.rest.is_empty() {
                self.rest = 0..self.input.read(&mut self.buffer)?;
                at_end = self.rest.is_empty();
                if at_end && self.between {
                    return Ok(0);
                }
            }
            let mut input = InBuffer::around(&self.buffer[self.rest.clone()]);
            let mut output = OutBuffer::around(&mut *out);
            let hint = self.context.decompress_stream(&mut output, &mut input);
            let hint = hint.map_err(|code| {
                io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code))
            })?;
            self.between = hint == 0;
            self.rest.start += input.pos();
            match output.pos() {
                0 if at_end && !self.between => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => {}
                written => return Ok(written),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Returns a file with `plain` compressed in frames of at most 70,001 bytes each.
    fn file(plain: &[u8], codec: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let compressor = Compressor::new(codec.parse().unwrap());
        let (mut frame, mut all) = (Vec::new(), Vec::new());
        for part in plain.chunks(70_001) {
            compressor.frame(part, &mut frame).unwrap();
            all.extend_from_slice(&frame);
        }
        std::fs::write(file.path(), all).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile) -> LayerFile {
        LayerFile::open(file.path().to_str().unwrap(), &Store::at("/nix/store")).unwrap()
    }

    fn content() -> Vec<u8> {
        (0..300_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect()
    }

    #[test]
    fn tar_stream_detects_the_codec() {
        let stop = AtomicBool::new(false);
        let control = Control::new(&stop, &());
        let plain = content();
        for codec in ["none", "gzip", "zstd"] {
            let file = file(&plain, codec);
            let mut read = Vec::new();
            tar_stream(open(&file), &control).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == plain, "{codec}");
            if codec == "none" {
                continue;
            }
            let length = std::fs::metadata(file.path()).unwrap().len();
            std::fs::File::options().write(true).open(file.path()).unwrap().set_len(length - 1).unwrap();
            let cut = tar_stream(open(&file), &control).unwrap().read_to_end(&mut read).unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{codec}");
        }
        let empty = file(&[], "none");
        let mut read = Vec::new();
        tar_stream(open(&empty), &control).unwrap().read_to_end(&mut read).unwrap();
        assert!(read.is_empty());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(tar_stream(open(&file(&plain, "zstd")), &control).unwrap().read_to_end(&mut read).is_err());
    }
}
