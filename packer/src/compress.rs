//! Codecs. A layer's tar stream is cut into frames at positions that the format fixes, and each frame is compressed separately:
//! a zstd frame or a gzip member. zstd and gzip readers treat the concatenation as one stream (RFC 8878 3.1, RFC 1952 2.2). So
//! the bytes depend only on the content, the codec and its level.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use nixply_documents::argument::{EXPECTED, NAMES, Names};
use nixply_documents::wording::quoted;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use crate::error::{Error, Result};

/// Version of the blobs' bytes. Changes whenever the same request would produce other bytes: another frame size, another
/// segment order, another codec version.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// Maximum number of uncompressed bytes in one frame. A store path's segment begins a new frame.
pub const FRAME_BYTES: usize = 4 << 20;

/// Logarithm of zstd's window, which is as large as a frame.
const WINDOW_LOG: u32 = FRAME_BYTES.ilog2();

/// A codec for blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Codec {
    /// Plain tar: a blob's digest is its diff_id.
    #[default]
    None,
    /// Every runtime accepts it. Compressed by libdeflate.
    Gzip {
        /// Compression level.
        level: u8,
    },
    /// Faster and smaller. Docker accepts it since version 23.
    Zstd {
        /// Compression level.
        level: u8,
    },
}

/// A codec's properties: the only definition of its name, levels, media types and first bytes.
struct Facts {
    name: &'static str,
    /// The default level and the highest level; the lowest is 1. `None` if the codec has no levels.
    levels: Option<(u8, u8)>,
    /// OCI's media type of a layer (image-spec, "media types").
    media_type: &'static str,
    /// Docker's media type of a layer. BuildKit and containerd write it if OCI's types are not requested.
    docker_media_type: &'static str,
    /// Extension of a blob's file name.
    suffix: &'static str,
    /// Whether a file with these first bytes is in this codec.
    begins: fn(&[u8]) -> bool,
    /// Whether every client supports it.
    universal: bool,
    /// The codec with a level.
    codec: fn(u8) -> Codec,
}

/// All codecs. A new codec is a variant of [`Codec`], a row here, and its arms in [`Codec::reader`], [`Compressor`] and
/// [`Decompressor`].
const CODECS: [Facts; 3] = [
    Facts {
        name: "none",
        levels: None,
        media_type: "application/vnd.oci.image.layer.v1.tar",
        docker_media_type: "application/vnd.docker.image.rootfs.diff.tar",
        suffix: ".tar",
        begins: |_| false,
        universal: true,
        codec: |_| Codec::None,
    },
    Facts {
        name: "gzip",
        levels: Some((6, 12)),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        docker_media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        suffix: ".tar.gz",
        begins: |bytes| bytes.starts_with(&[0x1f, 0x8b]),
        universal: true,
        codec: |level| Codec::Gzip { level },
    },
    Facts {
        name: "zstd",
        levels: Some((3, 19)),
        media_type: "application/vnd.oci.image.layer.v1.tar+zstd",
        docker_media_type: "application/vnd.docker.image.rootfs.diff.tar.zstd",
        suffix: ".tar.zst",
        // A frame, or a skippable frame, with which estargz and other formats begin.
        begins: |bytes| matches!(bytes, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]),
        universal: false,
        codec: |level| Codec::Zstd { level },
    },
];

impl Codec {
    fn facts(self) -> &'static Facts {
        match self {
            Self::None => &CODECS[0],
            Self::Gzip { .. } => &CODECS[1],
            Self::Zstd { .. } => &CODECS[2],
        }
    }

    fn level(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Gzip { level } | Self::Zstd { level } => Some(level),
        }
    }

    /// Returns every codec, with its default level.
    pub fn all() -> impl Iterator<Item = Self> {
        CODECS.iter().map(|facts| (facts.codec)(facts.levels.unwrap_or_default().0))
    }

    /// Returns the name, without a level.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Returns whether every client supports the codec.
    pub fn is_universal(self) -> bool {
        self.facts().universal
    }

    /// Returns the codec of a layer with this media type of OCI or Docker.
    pub fn of_media_type(text: &str) -> Option<Self> {
        let is = |codec: &Self| text == codec.media_type() || text == codec.facts().docker_media_type;
        Self::all().find(is)
    }

    /// Maximum number of bytes that [`Codec::of_first_bytes`] needs.
    pub(crate) const FIRST_BYTES: usize = 4;

    /// Returns the codec of a file with these first bytes.
    pub(crate) fn of_first_bytes(bytes: &[u8]) -> Self {
        Self::all().find(|codec| (codec.facts().begins)(bytes)).unwrap_or_default()
    }

    /// Decompresses a stream of any encoder.
    pub(crate) fn reader<'r>(self, input: impl Read + 'r) -> Box<dyn Read + 'r> {
        match self {
            Self::None => Box::new(input),
            Self::Gzip { .. } => Box::new(MultiGzDecoder::new(BufReader::new(input))),
            Self::Zstd { .. } => Box::new(ZstdReader::new(input)),
        }
    }

    /// Returns the media type of a layer blob.
    pub fn media_type(self) -> &'static str {
        self.facts().media_type
    }

    /// Returns the extension of a blob's file name, as in `.tar.gz`.
    pub fn suffix(self) -> &'static str {
        self.facts().suffix
    }

    /// Returns the codec with this name, with its level nearest to `level`, or with its default level.
    pub fn with_level_near(name: &str, level: Option<i64>) -> Option<Self> {
        let facts = CODECS.iter().find(|facts| facts.name == name)?;
        let Some((default, most)) = facts.levels else { return Some((facts.codec)(0)) };
        let level = level.map_or(default, |level| level.clamp(1, most.into()) as u8);
        Some((facts.codec)(level))
    }

    /// Lists the forms of a codec, for messages.
    pub fn forms() -> String {
        let names: Vec<&str> = CODECS.iter().map(|facts| facts.name).collect();
        let levels = CODECS.iter().filter_map(|facts| {
            let (_, most) = facts.levels?;
            Some(format!("{}:1 to {0}:{most}", facts.name))
        });
        format!(
            "one of {}, optionally with a level ({})",
            names.join(", "),
            levels.collect::<Vec<_>>().join(", ")
        )
    }

    /// Returns the highest level of each codec that has levels; the lowest is 1.
    pub(crate) fn highest_levels() -> BTreeMap<&'static str, u8> {
        CODECS.iter().filter_map(|facts| Some((facts.name, facts.levels?.1))).collect()
    }

    /// Returns a regular expression that matches every form of a codec.
    pub fn pattern() -> String {
        let one = |facts: &Facts| match facts.levels {
            None => facts.name.to_owned(),
            Some((_, most)) => {
                let levels: Vec<String> = (1..=most).map(|level| level.to_string()).collect();
                format!("{}(:0*({}))?", facts.name, levels.join("|"))
            }
        };
        CODECS.iter().map(one).collect::<Vec<_>>().join("|")
    }
}

impl JsonSchema for Codec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Codec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^({})$", Self::pattern()),
            EXPECTED: Self::forms(),
            NAMES: Names::Nothing.text(),
        })
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        self.level().map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

impl From<Codec> for String {
    fn from(codec: Codec) -> Self {
        codec.to_string()
    }
}

impl TryFrom<String> for Codec {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|_| format!("must be {}, not {}", Self::forms(), quoted(&text)))
    }
}

impl std::str::FromStr for Codec {
    type Err = Error;

    /// Parses a codec's name, with an optional level, as in `zstd:9`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
        let facts = CODECS.iter().find(|facts| facts.name == name);
        let level = match (facts.and_then(|facts| facts.levels), level) {
            (Some((default, _)), None) => Some(default),
            (None, None) => Some(0),
            (None, Some(_)) => None,
            // Only digits: Rust's parser also accepts a sign.
            (Some(_), Some(level)) if !level.bytes().all(|byte| byte.is_ascii_digit()) => None,
            (Some((_, most)), Some(level)) => level.parse().ok().filter(|level| (1..=most).contains(level)),
        };
        facts.zip(level).map(|(facts, level)| (facts.codec)(level)).ok_or_else(|| {
            Error::invalid(format!("compression {}", quoted(text)), format!("expected {}", Self::forms()))
        })
    }
}

/// Compresses frames on any number of threads. It reuses the compressors' working memory.
pub(crate) struct Compressor {
    codec: Codec,
    gzip: Mutex<Vec<libdeflater::Compressor>>,
    zstd: Mutex<Vec<zstd_safe::CCtx<'static>>>,
}

impl Compressor {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, gzip: Mutex::default(), zstd: Mutex::default() }
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Compresses one frame into `out` and replaces its content.
    pub(crate) fn frame(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self.codec {
            Codec::None => out.extend_from_slice(frame),
            Codec::Gzip { level } => {
                let idle = pop(&self.gzip);
                let mut compressor = idle.unwrap_or_else(|| {
                    let level = libdeflater::CompressionLvl::new(level.into())
                        .expect("the level was checked when parsed");
                    libdeflater::Compressor::new(level)
                });
                let bound = compressor.gzip_compress_bound(frame.len());
                out.try_reserve(bound).map_err(|_| Error::Memory)?;
                out.resize(bound, 0);
                let length = compressor
                    .gzip_compress(frame, out)
                    .map_err(|error| Error::invalid("gzip frame", format!("libdeflate: {error:?}")))?;
                out.truncate(length);
                push(&self.gzip, compressor);
            }
            Codec::Zstd { level } => {
                let failed = |code| match zstd_safe::get_error_name(code) {
                    // zstd's error name is the only sign of this error.
                    name if name.contains("not enough memory") => Error::Memory,
                    name => Error::invalid("zstd frame", name),
                };
                let mut context = match pop(&self.zstd) {
                    Some(context) => context,
                    None => {
                        let mut context = zstd_safe::CCtx::try_create().ok_or(Error::Memory)?;
                        let level = zstd_safe::CParameter::CompressionLevel(level.into());
                        context.set_parameter(level).map_err(failed)?;
                        // The window is as large as a frame. The lowest levels default to a smaller one, which makes larger
                        // output in no less time.
                        context
                            .set_parameter(zstd_safe::CParameter::WindowLog(WINDOW_LOG))
                            .map_err(failed)?;
                        context
                    }
                };
                out.try_reserve(zstd_safe::compress_bound(frame.len())).map_err(|_| Error::Memory)?;
                context.compress2(out, frame).map_err(failed)?;
                push(&self.zstd, context);
            }
        }
        Ok(())
    }
}

/// Decompresses a [`Compressor`]'s frames, one at a time.
pub(crate) enum Decompressor {
    None,
    Gzip(libdeflater::Decompressor),
    Zstd(zstd_safe::DCtx<'static>),
}

impl Decompressor {
    pub(crate) fn new(codec: Codec) -> Result<Self> {
        Ok(match codec {
            Codec::None => Self::None,
            Codec::Gzip { .. } => Self::Gzip(libdeflater::Decompressor::new()),
            Codec::Zstd { .. } => Self::Zstd(zstd_safe::DCtx::try_create().ok_or(Error::Memory)?),
        })
    }

    /// Fills `plain` exactly; returns false if the frame does not decompress to exactly that many bytes.
    pub(crate) fn frame(&mut self, compressed: &[u8], plain: &mut [u8]) -> bool {
        let length = plain.len();
        match self {
            Self::None => {
                plain.copy_from_slice(compressed);
                true
            }
            Self::Gzip(decompressor) => {
                decompressor.gzip_decompress(compressed, plain).is_ok_and(|written| written == length)
            }
            Self::Zstd(context) => {
                context.decompress(plain, compressed).is_ok_and(|written| written == length)
            }
        }
    }
}

/// Decompresses zstd frames.
struct ZstdReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Range of bytes in the buffer that are not decompressed yet.
    rest: std::ops::Range<usize>,
    context: DCtx<'static>,
    /// Whether the last frame is complete.
    between: bool,
}

impl<R> ZstdReader<R> {
    fn new(input: R) -> Self {
        let buffer = vec![0; DCtx::in_size()];
        Self { input, buffer, rest: 0..0, context: DCtx::create(), between: true }
    }
}

impl<R: Read> Read for ZstdReader<R> {
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

fn pop<T>(idle: &Mutex<Vec<T>>) -> Option<T> {
    idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

fn push<T>(idle: &Mutex<Vec<T>>, value: T) {
    idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_with_their_levels() {
        for (text, canonical) in
            [("none", "none"), ("gzip", "gzip:6"), ("zstd", "zstd:3"), ("zstd:19", "zstd:19")]
        {
            assert_eq!(text.parse::<Codec>().unwrap().to_string(), canonical);
        }
        for text in ["", "none:1", "gzip:0", "gzip:13", "zstd:20", "zstd:", "zstd:+3", "xz", "zstd:3:4"] {
            assert!(
                text.parse::<Codec>()
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("expected {}", Codec::forms())),
                "{text}"
            );
        }
    }

    #[test]
    fn frames_concatenate_to_one_stream() {
        let parts = [vec![b'a'; 100_000], Vec::new(), (0..=255).cycle().take(70_001).collect::<Vec<u8>>()];
        let compressed = |codec| {
            let compressor = Compressor::new(codec);
            let mut blob = Vec::new();
            for part in &parts {
                let mut frame = b"left from before".to_vec();
                compressor.frame(part, &mut frame).unwrap();
                blob.extend(frame);
            }
            blob
        };
        let mut frame = Vec::new();
        for codec in Codec::all() {
            let blob = compressed(codec);
            assert_eq!(Codec::of_first_bytes(&blob[..Codec::FIRST_BYTES]), codec);
            let mut plain = Vec::new();
            codec.reader(&blob[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, parts.concat(), "{codec}");
            if codec == Codec::None {
                continue;
            }
            Compressor::new(codec).frame(&parts[2], &mut frame).unwrap();
            let mut plain = vec![0; parts[2].len()];
            assert!(Decompressor::new(codec).unwrap().frame(&frame, &mut plain) && plain == parts[2]);
            assert!(
                !Decompressor::new(codec).unwrap().frame(&frame, &mut plain[1..]),
                "a wrong length is refused"
            );
            assert!(
                !Decompressor::new(codec).unwrap().frame(&frame[9..], &mut plain),
                "a cut frame is refused"
            );
        }
    }
}
