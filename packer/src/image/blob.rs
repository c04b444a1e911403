//! Layers that are kept in files, as other tools compressed them: their tar streams, and their conversion to another codec.

use std::io::{self, Read, Write};
use std::mem::discriminant;
use std::path::Path;
use std::sync::Arc;

use nixply_files::scratch;
use nixply_oci::{DiffId, Digest};
use nixply_planning::Store;
use sha2::{Digest as _, Sha256};

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
    let size = usize::try_from(layer.size()).unwrap_or(usize::MAX);
    let mut first = vec![0; size.min(Codec::FIRST_BYTES)];
    layer.read_exact_at(&mut first, 0)?;
    Ok(Codec::of_first_bytes(&first).reader(Interruptible { layer, at: 0, control }))
}

impl ImageSpec {
    /// Returns the image for a target that supports `codec`: layers for which [`Layer::is_to_convert`] returns true are converted, in files in `directory`.
    /// The diff_ids stay the same, and so does the config.
    pub fn converted(
        self,
        store: &Store,
        codec: Codec,
        directory: &Path,
        control: &Control<'_>,
    ) -> Result<ImageSpec> {
        let convert = |layer: Layer| {
            let from = layer.layer_path.as_deref().filter(|_| layer.is_to_convert(codec));
            let Some(from) = from else { return Ok(layer) };
            let from = LayerFile::open(from, store)?;
            let failed = |source| Error::io("write blob", directory, source);
            let mut file = scratch::file(directory)?;
            let (digest, size) =
                layer.convert(from, codec, control, |bytes| file.write_all(bytes).map_err(failed))?;
            let place = directory.join(digest.hex());
            scratch::keep(file, &place)?;
            let text = place
                .to_str()
                .ok_or_else(|| Error::invalid(place.display().to_string(), "it is not UTF-8"))?;
            let (layer_path, media_type) = (Some(text.to_owned()), codec.media_type().to_owned());
            Ok(Layer { digest, size, layer_path, media_type, ..layer })
        };
        let layers = self.layers.into_iter().map(convert).collect::<Result<_>>()?;
        Ok(ImageSpec { layers, ..self })
    }
}

impl Layer {
    /// Returns the codec of a layer that is kept in a file. `None` for other layers.
    pub fn kept_codec(&self) -> Option<Codec> {
        self.layer_path.is_some().then(|| self.codec())
    }

    /// Returns whether the layer is kept in a codec that not every client supports, and `codec` is a different one.
    pub fn is_to_convert(&self, codec: Codec) -> bool {
        self.kept_codec()
            .is_some_and(|kept| !kept.is_universal() && discriminant(&kept) != discriminant(&codec))
    }

    /// Compresses the layer's file with `codec`, in frames like the packer's. Fails if the content does not match the layer's
    /// diff_id. Returns the digest and size of the bytes passed to `write`.
    ///
    /// # Errors
    ///
    /// The file cannot be read or decompressed, it has other content, or `write` fails.
    pub fn convert(
        &self,
        file: impl Into<Arc<LayerFile>>,
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
        if found != self.diff_id {
            let why = format!("its content is {found}, but the image spec records {}", self.diff_id);
            return Err(Error::invalid(format!("layer file {}", path.display()), why));
        }
        Ok((Digest::finish(blob), size))
    }
}

/// The properties of a layer's blob, found by reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Codec, by the blob's first bytes.
    pub codec: Codec,
    /// Digest of the tar stream, or the reason why the blob cannot be decompressed.
    pub diff_id: Result<DiffId, String>,
}

impl Measured {
    /// Reads a blob to its end, and decompresses it.
    ///
    /// # Errors
    ///
    /// `input` cannot be read. A blob that cannot be decompressed is not an error.
    pub fn of(input: &mut dyn Read) -> io::Result<Self> {
        let mut first = Vec::with_capacity(Codec::FIRST_BYTES);
        let mut blob = Hashed { input, hasher: Sha256::new(), size: 0, error: None };
        blob.by_ref().take(Codec::FIRST_BYTES as u64).read_to_end(&mut first)?;
        let codec = Codec::of_first_bytes(&first);
        let mut plain = Sha256::new();
        let mut chunk = vec![0; 1 << 18];
        let decompressed = {
            let mut stream = codec.reader(first.chain(&mut blob));
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => break Ok(()),
                    Ok(read) => plain.update(&chunk[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error.to_string()),
                }
            }
        };
        if let Some(error) = blob.error.take() {
            return Err(error);
        }
        // After an error, and after the end of a compressed stream.
        while blob.read(&mut chunk)? > 0 {}
        let (digest, size) = (Digest::finish(blob.hasher), blob.size);
        Ok(Self { digest, size, codec, diff_id: decompressed.map(|()| DiffId::finish(plain)) })
    }
}

/// A blob that is hashed while it is read. It keeps its error: a decoder does not tell it from an error in the data.
struct Hashed<'r> {
    input: &'r mut dyn Read,
    hasher: Sha256,
    size: u64,
    error: Option<io::Error>,
}

impl Read for Hashed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.input.read(out) {
            Ok(read) => {
                self.hasher.update(&out[..read]);
                self.size += read as u64;
                Ok(read)
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.error = Some(error);
                Err(copy)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Returns a file with `plain` compressed in frames of at most 70,001 bytes each.
    fn file(plain: &[u8], codec: Codec) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let compressor = Compressor::new(codec);
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
    fn blobs_are_measured_with_their_codec_and_damage() {
        let plain = content();
        let diff_id = DiffId::of(&plain);
        for codec in Codec::all() {
            let blob = std::fs::read(file(&plain, codec).path()).unwrap();
            let expected =
                Measured { digest: Digest::of(&blob), size: blob.len() as u64, codec, diff_id: Ok(diff_id) };
            assert_eq!(Measured::of(&mut &blob[..]).unwrap(), expected, "{codec}");
            let mut damaged = blob.clone();
            damaged[blob.len() / 2] ^= 1;
            let measured = Measured::of(&mut &damaged[..]).unwrap();
            assert_eq!((measured.digest, measured.size), (Digest::of(&damaged), expected.size), "{codec}");
            assert_ne!(measured.diff_id, Ok(diff_id), "{codec}");
        }
        let mut cut = io::Cursor::new(b"\x28\xb5\x2f\xfd").chain(Failing);
        assert_eq!(Measured::of(&mut cut).unwrap_err().to_string(), "the connection was closed");
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the connection was closed"))
        }
    }

    #[test]
    fn tar_stream_detects_the_codec() {
        let stop = AtomicBool::new(false);
        let control = Control::new(&stop, &());
        let plain = content();
        for codec in Codec::all() {
            let file = file(&plain, codec);
            let mut read = Vec::new();
            tar_stream(open(&file), &control).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == plain, "{codec}");
            if codec == Codec::None {
                continue;
            }
            let length = std::fs::metadata(file.path()).unwrap().len();
            std::fs::File::options().write(true).open(file.path()).unwrap().set_len(length - 1).unwrap();
            let cut = tar_stream(open(&file), &control).unwrap().read_to_end(&mut read).unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{codec}");
        }
        let empty = file(&[], Codec::None);
        let mut read = Vec::new();
        tar_stream(open(&empty), &control).unwrap().read_to_end(&mut read).unwrap();
        assert!(read.is_empty());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(
            tar_stream(open(&file(&plain, "zstd".parse().unwrap())), &control)
                .unwrap()
                .read_to_end(&mut read)
                .is_err()
        );
    }
}
