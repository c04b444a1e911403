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
use serde::Serialize;

use super::blob::{self, Blob};
use super::manifests::{self, Current, Written};
use super::read::Reader;
use super::reference::{Reference, Version};
use super::session::Session;
use super::upload::Upload;
use crate::content::catalog::{Blob as SentBlob, Document};
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
    let bytes = blob::small(session, manifest.layers[0].digest, MAX_INDEX).await?;
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
    if let Current::Other(old) = &current {
        let manifest = serde_json::from_slice::<Manifest>(&old.bytes).ok().filter(is_frames);
        let Some(manifest) = manifest else {
            return Err(Error::NoFrames { reference: reference.to_string() });
        };
        if let Ok(old) = read(session, &manifest, &reference).await {
            index.extend(old, &|blob| image.contains(&blob));
        }
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
        let (digest, blob) = (Digest::of(&bytes), SentBlob::Bytes(bytes));
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
    reader: Reader,
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
    pub(super) fn new(reference: Reference, reader: Reader, index: FrameIndex) -> Self {
        Self {
            reference,
            reader,
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

    fn fetch_run(&self, run: Run<'_>, cache: &Cache) -> Result<(), String> {
        if self.refuses_ranges.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut part = Blob::part(&self.reader, run.blob, run.bytes.clone());
        match part.begin() {
            Err(Error::Answer { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
                self.refuses_ranges.store(true, Ordering::Relaxed);
                return Err(source.to_string());
            }
            begun => begun.map_err(|error| error.chain())?,
        }
        self.take(run, part, cache)
    }

    /// Checks the segments of a run and adds them to the cache.
    fn take(&self, run: Run<'_>, mut bytes: Blob<'_>, cache: &Cache) -> Result<(), String> {
        let mut at = run.bytes.start;
        let mut problem = None;
        for (wanted, place) in run.segments {
            let skip = |bytes: &mut Blob<'_>, count: u64| io::copy(&mut bytes.take(count), &mut io::sink());
            skip(&mut bytes, place.offset - at).map_err(|error| error.to_string())?;
            let length = place.end() - place.offset;
            let mut part = Read::take(&mut bytes, length);
            match wanted.receive(place, &mut part, cache) {
                Ok(()) => {
                    self.fetched.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(length, Ordering::Relaxed);
                }
                Err(error) => problem = Some(error.to_string()),
            }
            let left = part.limit();
            skip(&mut bytes, left).map_err(|error| error.to_string())?;
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
        let runs = Mutex::new(self.runs(wanted).into_iter());
        let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..MAX_REQUESTS {
                scope.spawn(|| {
                    while let Some(run) = next() {
                        self.fetch_run(run, cache).unwrap_or_else(failed);
                    }
                });
            }
        });
    }
}
