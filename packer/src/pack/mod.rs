//! Packs layers: reads, hashes and compresses their tar streams, several layers at once and, within a layer, the next
//! frame's reading beside this frame's hashing and compression. What a [`Cache`] has is not made again.
//!
//! All work runs on a rayon pool of its own that lives as long as the call: a Nix that forks builders must not find
//! threads of ours, let alone a global pool.
//! Memory is bounded by the number of threads times [`FRAME_BYTES`]: there are never more layers in work than threads,
//! and the frames in flight are shared out among them.

mod lane;
mod pieces;
mod source;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use self::pieces::Pieces;
use crate::cache::Cache;
use crate::closure::{Store, StorePath};
use crate::compress::{Codec, Compressor};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::spec::Layer;
use crate::plan::PlannedPath;
use crate::rules::{PathOptions, Rules};

#[cfg(doc)]
use crate::compress::FRAME_BYTES;

/// A store path that is ready to be read: where it lies and what becomes of it.
#[derive(Debug)]
pub struct LayerPath {
    pub(crate) path: StorePath,
    pub(crate) real_path: PathBuf,
    pub(crate) rules: Rules,
    /// Whether anything but a folder is an error.
    pub(crate) folder_only: bool,
    options: Option<PathOptions>,
    nar_hash: Option<String>,
    nar_size: u64,
}

impl LayerPath {
    /// Compiles a planned path's rules and finds its files in `store`.
    pub fn new(planned: &PlannedPath, store: &Store) -> Result<Self> {
        let rules = match &planned.options {
            Some(options) => Rules::compile(options, planned.path.as_str())?,
            None => Rules::default(),
        };
        Ok(Self {
            path: planned.path.clone(),
            real_path: store.real_path(&planned.path),
            rules,
            folder_only: false,
            options: planned.options.clone(),
            nar_hash: None,
            nar_size: 0,
        })
    }

    /// With its archive's hash, which a [`Cache`] needs, and size, which is for [`Progress`]. Empty and 0 are unknown.
    #[must_use]
    pub fn with_archive(self, nar_hash: &str, nar_size: u64) -> Self {
        let nar_hash = (!nar_hash.is_empty()).then(|| nar_hash.to_owned());
        Self { nar_hash, nar_size, ..self }
    }

    /// With the demand that it be a folder: of a file, `copyToRoot` would put nothing into the image.
    #[must_use]
    pub fn with_folder_only(self, folder_only: bool) -> Self {
        Self { folder_only, ..self }
    }

    /// All of a layer's paths.
    pub fn all(planned: &[PlannedPath], store: &Store) -> Result<Vec<Self>> {
        planned.iter().map(|path| Self::new(path, store)).collect()
    }

    /// The sum of the paths' archive sizes, in bytes.
    fn total(paths: &[Self]) -> u64 {
        paths.iter().map(|path| path.nar_size).sum()
    }
}

/// A packed layer's digests and sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// Of the uncompressed tar stream.
    pub diff_id: DiffId,
    /// The tar stream's size.
    pub tar_size: u64,
    /// Of the blob: the compressed stream, or the tar stream where the codec is none.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
}

/// Hears how packing goes. Called from the packer's threads.
pub trait Progress: Sync {
    /// Work on a layer has begun. Its store paths' archives have so many bytes together, where that is known; its tar
    /// stream has about as many.
    fn layer_started(&self, _layer: usize, _expected: u64) {}
    /// So many further bytes of a layer's tar stream have been packed.
    fn packed(&self, _layer: usize, _bytes: u64) {}
    /// A layer is done.
    fn layer_finished(&self, _layer: usize, _packed: &PackedLayer) {}
}

/// Nobody listens.
impl Progress for () {}

/// How a call is steered from outside.
pub struct Control<'c> {
    stop: &'c AtomicBool,
    progress: &'c dyn Progress,
    pub(crate) case_hack: bool,
}

impl<'c> Control<'c> {
    /// Packing ends with [`Error::Interrupted`] soon after `stop` becomes true.
    pub fn new(stop: &'c AtomicBool, progress: &'c dyn Progress) -> Self {
        // macOS stores have the case hack by default; elsewhere such a name is a name.
        Self { stop, progress, case_hack: cfg!(target_os = "macos") }
    }

    /// An error once the caller wants to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Takes a layer's blob as it is made. Dropped without [`BlobWriter::finish`], it must leave nothing behind.
pub trait BlobWriter: Send {
    /// The blob's next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// The blob is complete.
    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()>;
}

/// Where layers' blobs go.
pub trait BlobSink: Sync {
    /// Whether the layer's bytes are wanted even if its digests are known.
    fn is_wanted(&self, layer: usize) -> bool {
        let _ = layer;
        true
    }

    /// A writer for the layer, or none if only its digests are wanted.
    fn open(&self, layer: usize) -> Result<Option<Box<dyn BlobWriter>>>;
}

/// Only digests are wanted.
impl BlobSink for () {
    fn is_wanted(&self, _layer: usize) -> bool {
        false
    }

    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(None)
    }
}

/// The most threads that a packer has, whatever it is asked for: memory and the system's limits come first.
pub const MOST_THREADS: usize = 256;

/// The packer. It has threads only while it packs.
#[derive(Debug, Clone)]
pub struct Packer {
    threads: usize,
    cache: Option<Cache>,
}

impl Packer {
    /// A packer with this many threads; 0 means one per core. More than [`MOST_THREADS`] count as so many.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.min(MOST_THREADS), cache: None }
    }

    /// With a cache: what it has is not made again, and what is made is put into it.
    #[must_use]
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// A spec's layer's paths, ready to be packed. A spec has no archive hashes; where the cache remembers them from
    /// when the layer was made, the cache is of use again.
    pub fn layer_paths(&self, layer: &Layer, store: &Store) -> Result<Vec<LayerPath>> {
        let paths = LayerPath::all(&layer.paths, store)?;
        let known = self.cache.as_ref().and_then(|cache| cache.contents(layer.diff_id));
        Ok(match known.filter(|hashes| hashes.len() == paths.len()) {
            Some(hashes) => {
                paths.into_iter().zip(&hashes).map(|(path, hash)| path.with_archive(hash, 0)).collect()
            }
            None => paths,
        })
    }

    /// Packs all `layers` and gives their digests in the same order. The digests and the bytes depend on the layers and
    /// the codec alone. Of several errors the first layer's is given.
    ///
    /// A layer that the cache knows, and whose bytes nobody wants, is not read.
    pub fn pack(
        &self,
        layers: &[Vec<LayerPath>],
        codec: Codec,
        sink: &dyn BlobSink,
        control: &Control<'_>,
    ) -> Result<Vec<PackedLayer>> {
        let cache = self.cache.as_ref();
        let mut jobs = Vec::with_capacity(layers.len());
        for (at, paths) in layers.iter().enumerate() {
            let pieces = Pieces::new(paths, codec);
            let known = cache.zip(pieces.layer_key()).and_then(|(cache, key)| cache.layer(key));
            jobs.push(Job { at, expected: LayerPath::total(paths), pieces, known });
        }
        let (done, todo): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.known.is_some() && !sink.is_wanted(job.at));
        let mut packed: Vec<Option<PackedLayer>> = vec![None; layers.len()];
        done.iter().for_each(|job| packed[job.at] = job.known);
        if !todo.is_empty() {
            let compressor = Compressor::new(codec);
            let shared = Shared { compressor: &compressor, cache, sink, control };
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.threads)
                .thread_name(|at| format!("nixply-{at}"));
            // A scoped pool: its threads have ended when this returns, so a Nix that forks afterwards finds none.
            let made = pool
                .build_scoped(|thread| thread.run(), |pool| pack_on(pool, &todo, &shared))
                .map_err(|error| Error::invalid("thread pool", error))??;
            for (job, made) in todo.iter().zip(made) {
                if let Some(cache) = cache {
                    remember(cache, job, &layers[job.at], &made);
                }
                packed[job.at] = Some(made);
            }
        }
        Ok(packed.into_iter().map(|layer| layer.expect("known, or just packed")).collect())
    }
}

/// Puts what was found out about a layer into the cache.
fn remember(cache: &Cache, job: &Job<'_>, paths: &[LayerPath], packed: &PackedLayer) {
    if let Some(key) = job.pieces.layer_key().filter(|_| job.known.is_none()) {
        cache.put_layer(key, packed);
        let hashes: Vec<&str> = paths.iter().filter_map(|path| path.nar_hash.as_deref()).collect();
        cache.put_contents(packed.diff_id, &hashes);
    }
}

/// A layer that is to be packed.
struct Job<'l> {
    at: usize,
    /// About how many bytes its stream will have.
    expected: u64,
    pieces: Pieces<'l>,
    /// What the cache knows of it.
    known: Option<PackedLayer>,
}

/// What all layers of a call have in common.
#[derive(Clone, Copy)]
struct Shared<'s> {
    compressor: &'s Compressor,
    cache: Option<&'s Cache>,
    sink: &'s dyn BlobSink,
    control: &'s Control<'s>,
}

fn pack_on(pool: &rayon::ThreadPool, jobs: &[Job<'_>], shared: &Shared<'_>) -> Result<Vec<PackedLayer>> {
    let results: Vec<Mutex<Option<Result<PackedLayer>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let threads = pool.current_num_threads();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let lanes = threads.min(jobs.len());
    let busy = AtomicUsize::new(lanes);
    let lane = || {
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            // The frames in flight are shared out among the lanes that still have work.
            let width = || threads.div_ceil(busy.load(Ordering::Relaxed).max(1));
            let result = lane::pack(job, shared, &width);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            *results[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        busy.fetch_sub(1, Ordering::Relaxed);
    };
    pool.scope(|scope| (0..lanes).for_each(|_| scope.spawn(|_| lane())));
    let results =
        results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    // A layer that was never begun stands behind one that failed.
    results.map_while(|result| result).collect()
}
