//! Frames of layers in a registry: an artifact names the place of each compressed frame inside the layers that images there have. Another
//! machine fetches the frames that it needs by range, instead of compressing them.
//!
//! The artifact is an image manifest with one layer, the index of frames ([`FrameIndex`]). It is in the repository of the images whose
//! layers it names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use nixply_oci::{Descriptor, Digest, MANIFEST, Manifest};
use nixply_packer::{Cache, FrameIndex, SegmentPlace, SegmentSource, WantedSegment};
use reqwest::Response;
use serde::Serialize;
use tokio::runtime::Handle;

use super::answer;
use super::blobs::{self, Opened};
use super::manifests::{self, Current, Written};
use super::reference::{Reference, Version};
use super::session::Session;
use super::upload::Upload;
use crate::content::catalog::{Blob, Document};
use crate::content::pack_queue::PackQueue;
use crate::error::{Error, Result};

/// Type of the artifact, of its config and of its layer. Some registries show an artifact under its config's type.
pub(super) const FRAMES: &str = "application/vnd.nixply.frames.v1+json";

/// Maximum size of an index of frames: a store path has about 250 bytes, and each 4 MiB of its content about 100.
const MAX_INDEX: usize = 256 << 20;

/// Maximum number of bytes between two segments that one request reads.
const MAX_GAP: u64 = 64 << 10;

/// Maximum number of bytes of one request.
const MAX_RANGE: u64 = 64 << 20;

/// Maximum number of concurrent requests.
const MAX_REQUESTS: usize = 6;

/// The manifest of an artifact (image-spec 1.1, "Guidelines for Artifact Usage").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Returns whether a manifest is an artifact with frames.
pub(super) fn is_frames(manifest: &Manifest) -> bool {
    manifest.layers.len() == 1 && manifest.layers[0].media_type == FRAMES
}

/// Reads the index of an artifact.
pub(super) async fn read(
    session: &Session,
    manifest: &Manifest,
    reference: &Reference,
) -> Result<FrameIndex> {
    let bytes = blobs::small(session, manifest.layers[0].digest, MAX_INDEX).await?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(FrameIndex::read(&text, &format!("the frames of {reference}"))?)
}

/// Stores the index of an image's frames under a tag of the image's repository. Keeps those entries of the old index that are for the
/// image's blobs. Returns the number of segments.
pub(super) async fn write(
    session: &Session,
    tag: &Version,
    mut index: FrameIndex,
    image: &BTreeSet<Digest>,
    queue: &Arc<PackQueue>,
) -> Result<usize> {
    let reference = manifests::reference(session, tag);
    let current = manifests::read(session, tag, None).await?;
    if let Current::Other(old) = &current
        && let Ok(manifest) = serde_json::from_slice::<Manifest>(&old.bytes)
        && is_frames(&manifest)
        && let Ok(old) = read(session, &manifest, &reference).await
    {
        index.extend(old, &|blob| image.contains(&blob));
    }
    let (config, text) = (Bytes::from_static(b"{}"), Bytes::from(index.write()));
    let artifact = Artifact {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: FRAMES,
        config: Descriptor::of(FRAMES, &config),
        layers: vec![Descriptor::of(FRAMES, &text)],
    };
    let document = Document::new(MANIFEST, &artifact);
    if matches!(current, Current::Other(old) if old.digest == document.digest) {
        return Ok(index.len());
    }
    let failed = Mutex::new(None);
    for bytes in [config, text] {
        let (digest, blob) = (Digest::of(&bytes), Blob::Bytes(bytes));
        let upload = Upload { session, digest, blob: &blob, queue, source: None, failed: &failed };
        upload.run().await?;
    }
    match manifests::write(session, tag, &document).await? {
        Written::Yes => Ok(index.len()),
        Written::BlobUnknown => Err(Error::LostBlobs { reference: reference.to_string() }),
    }
}

/// The frames that an artifact names, as a source for the packer.
pub struct Frames {
    reference: Reference,
    session: Session,
    index: FrameIndex,
    fetched: AtomicU64,
    bytes: AtomicU64,
    /// Whether the registry sends whole blobs instead of ranges.
    refuses_ranges: AtomicBool,
    problem: Mutex<Option<String>>,
}

/// Segments that one request reads.
struct Run<'r> {
    blob: Digest,
    bytes: Range<u64>,
    segments: Vec<(&'r WantedSegment, &'r SegmentPlace)>,
}

impl Frames {
    pub(super) fn new(reference: Reference, session: Session, index: FrameIndex) -> Self {
        Self {
            reference,
            session,
            index,
            fetched: AtomicU64::default(),
            bytes: AtomicU64::default(),
            refuses_ranges: AtomicBool::default(),
            problem: Mutex::default(),
        }
    }

    /// Returns the reference of the artifact.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the number of fetched segments and of their compressed bytes.
    pub fn fetched(&self) -> (u64, u64) {
        (self.fetched.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Returns why frames were not used, if that happened. The packer has compressed them instead.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Groups the segments that the registry has by neighbouring places.
    fn runs<'r>(&'r self, wanted: &'r [WantedSegment]) -> Vec<Run<'r>> {
        let placed = wanted.iter().filter_map(|wanted| Some((wanted, wanted.place(&self.index)?)));
        let places: BTreeMap<_, _> =
            placed.map(|(wanted, place)| ((place.blob, place.offset), (wanted, place))).collect();
        let mut runs: Vec<Run<'r>> = Vec::new();
        for ((blob, offset), (wanted, place)) in places {
            let end = place.end();
            let last = runs.last_mut().filter(|run| {
                run.blob == blob
                    && offset >= run.bytes.end
                    && offset - run.bytes.end <= MAX_GAP
                    && end - run.bytes.start <= MAX_RANGE
            });
            match last {
                Some(run) => {
                    run.bytes.end = end;
                    run.segments.push((wanted, place));
                }
                None => runs.push(Run { blob, bytes: offset..end, segments: vec![(wanted, place)] }),
            }
        }
        runs
    }

    fn fetch_run(&self, run: Run<'_>, cache: &Cache, runtime: &Handle) -> Result<(), String> {
        if self.refuses_ranges.load(Ordering::Relaxed) {
            return Ok(());
        }
        let opened = runtime.block_on(blobs::open(&self.session, run.blob, Some(run.bytes.clone())));
        match opened.map_err(|error| error.chain())? {
            Opened::Part(answer) => self.take(run, Pieces { answer, runtime, rest: Bytes::new() }, cache),
            Opened::Whole(_) => {
                self.refuses_ranges.store(true, Ordering::Relaxed);
                Err("the registry sends no parts of blobs".into())
            }
        }
    }

    /// Checks the segments of a run and adds them to the cache.
    fn take(&self, run: Run<'_>, mut pieces: Pieces<'_>, cache: &Cache) -> Result<(), String> {
        let mut at = run.bytes.start;
        let mut problem = None;
        for (wanted, place) in run.segments {
            let skip =
                |pieces: &mut Pieces<'_>, bytes: u64| io::copy(&mut pieces.take(bytes), &mut io::sink());
            skip(&mut pieces, place.offset - at).map_err(|error| error.to_string())?;
            let length = place.end() - place.offset;
            let mut part = Read::take(&mut pieces, length);
            match wanted.receive(place, &mut part, cache) {
                Ok(()) => {
                    self.fetched.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(length, Ordering::Relaxed);
                }
                Err(error) => problem = Some(error.to_string()),
            }
            let left = part.limit();
            skip(&mut pieces, left).map_err(|error| error.to_string())?;
            at = place.end();
        }
        problem.map_or(Ok(()), Err)
    }
}

impl SegmentSource for Frames {
    fn fetch(&self, wanted: &[WantedSegment], cache: &Cache) {
        let failed = |why: String| {
            self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return failed(error.to_string()),
        };
        let runs = Mutex::new(self.runs(wanted).into_iter());
        let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..MAX_REQUESTS {
                scope.spawn(|| {
                    while let Some(run) = next() {
                        self.fetch_run(run, cache, runtime.handle()).unwrap_or_else(failed);
                    }
                });
            }
        });
    }
}

/// The bytes of an answer.
struct Pieces<'r> {
    answer: Response,
    runtime: &'r Handle,
    rest: Bytes,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(answer::piece(&mut self.answer))? {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
