//! Packs layers: reads, hashes and compresses their tar streams, several layers at once and, within a layer, reading
//! ahead beside hashing and compression. What a [`Cache`] has is not made again.
//!
//! All threads live as long as the call: a Nix that forks builders must not find threads of ours, let alone a global
//! pool. Memory is bounded by the number of threads times [`FRAME_BYTES`]: there are never more layers in work than
//! threads, and the frames in flight are shared out among them.

mod cached;
mod compare;
mod cores;
mod lane;
mod output;
mod pieces;
mod source;
mod states;

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

pub use self::cached::CachedBlob;
pub(crate) use self::cores::Cores;
use self::pieces::Pieces;
use crate::cache::{Cache, KnownLayer, LayerKey};
use crate::closure::{Store, StorePath};
use crate::compress::{Codec, Compressor};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::spec::Layer;
use crate::nar_hash;
use crate::plan::{PlannedPath, Stop};
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
        let nar_hash = (!nar_hash.is_empty()).then(|| nar_hash::canonical(nar_hash));
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

    /// The hash by which Nix knows its archive, if anybody has said.
    pub(crate) fn nar_hash(&self) -> Option<&str> {
        self.nar_hash.as_deref()
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
    /// Of the blob: the compressed stream, or the tar stream where the codec is none.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
}

impl fmt::Display for PackedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { diff_id, digest, size } = self;
        write!(f, "{digest} ({size} bytes, diff_id {diff_id})")
    }
}

/// A layer of a spec, by which what is packed is judged.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'l> {
    /// What the spec says of it.
    pub layer: &'l Layer,
    /// Its place in the image, from 0.
    pub place: usize,
}

impl Recorded<'_> {
    /// Whether that is what packing with `codec` gave.
    fn check(&self, packed: &PackedLayer, codec: Codec) -> Result<()> {
        let Self { layer, place } = *self;
        let paths = || layer.paths.iter().map(|path| path.path.to_string()).collect();
        if packed.diff_id != layer.diff_id {
            let (expected, found) = (layer.diff_id, packed.diff_id);
            return Err(Error::DigestMismatch { layer: place, expected, found, paths: paths() });
        }
        let (expected, expected_size, found, found_size) =
            (layer.digest, layer.size, packed.digest, packed.size);
        // No tar stream is empty: a size of 0 is one that nobody has recorded.
        let same = expected == found && (expected_size == found_size || expected_size == 0);
        if layer.compression.unwrap_or_default() == codec && !same {
            let layer = place;
            return Err(Error::BlobDiffers {
                layer,
                expected,
                expected_size,
                found,
                found_size,
                paths: paths(),
            });
        }
        Ok(())
    }
}

/// Hears how packing goes. Called from the packer's threads. A layer's number is its place in the image if the sink says
/// which that is ([`BlobSink::recorded`]), else its place in the call, from 0.
pub trait Progress: Sync {
    /// A call begins to pack so many layers; those that are known are not among them. They have about so many bytes
    /// together, or 0 where that is unknown.
    fn packing_started(&self, _layers: usize, _expected: u64) {}
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

    /// The same for planning.
    pub fn stop(&self) -> Stop<'c> {
        Stop::new(self.stop)
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

    /// What a spec records of the layer: that packing gives anything else is an error.
    fn recorded(&self, layer: usize) -> Option<Recorded<'_>> {
        let _ = layer;
        None
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
    store_check: bool,
}

impl Packer {
    /// A packer with this many threads; 0 means one per core. More than [`MOST_THREADS`] count as so many.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.min(MOST_THREADS), cache: None, store_check: false }
    }

    /// With a cache: what it has is not made again, and what is made is put into it.
    #[must_use]
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        let cache = cache.map(|cache| cache.with_checked(self.store_check));
        Self { cache, ..self }
    }

    /// With a check of the store: the archives of store paths that are read are hashed, as they are packed, and compared with
    /// what Nix knows of them. Nothing is kept of a path that is wrong. What was made without this check is not taken out
    /// of the cache but made again; what it was made with is.
    #[must_use]
    pub fn with_store_check(self, store_check: bool) -> Self {
        let cache = self.cache.map(|cache| cache.with_checked(store_check));
        Self { cache, store_check, ..self }
    }

    /// Its cache.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Whether it checks the store.
    pub(crate) fn checks_store(&self) -> bool {
        self.store_check
    }

    /// A spec's layer's paths, ready to be packed. A spec has no archive hashes; where the cache remembers them from
    /// when the layer was made, the cache is of use again.
    pub fn layer_paths(&self, layer: &Layer, store: &Store) -> Result<Vec<LayerPath>> {
        let paths = LayerPath::all(&layer.paths, store)?;
        let hashes = self.cache.as_ref().and_then(|cache| cache.contents(layer.diff_id)).unwrap_or_default();
        let known = |path: LayerPath| match hashes.get(path.path.as_str()) {
            Some(hash) => path.with_archive(hash, 0),
            None => path,
        };
        Ok(paths.into_iter().map(known).collect())
    }

    /// Names the content of a layer and how it is compressed: whoever knows a layer with this key knows its digests. None
    /// where a path's archive hash is unknown, and of plain tar.
    pub fn layer_key(paths: &[LayerPath], codec: Codec) -> Option<LayerKey> {
        if codec == Codec::None { None } else { Pieces::new(paths, codec).layer_key() }
    }

    /// Forgets what the cache has of these layers from specs alone ([`Cache::import`]): one of them has turned out to be
    /// wrong, and the others come from the same hand.
    pub fn forget_unproven(&self, layers: &[Layer]) {
        if let Some(cache) = &self.cache {
            layers.iter().filter_map(|layer| layer.key).for_each(|key| cache.forget_unproven(key));
        }
    }

    /// The blob of a layer, if the cache has all of its segments now, and it is known from packing what they make together.
    pub fn cached_blob(&self, paths: &[LayerPath], codec: Codec) -> Result<Option<CachedBlob>> {
        self.cache.as_ref().map_or(Ok(None), |cache| CachedBlob::find(cache, paths, codec))
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
            if let Some((cache, known)) = cache.zip(known) {
                // From a spec, or evicted since.
                remember_contents(cache, known.packed.diff_id, paths);
            }
            let recorded = sink.recorded(at);
            // A spec has no archives' sizes, but a plain layer's own is that of its stream.
            let plain = recorded.filter(|of| of.layer.compression.is_none()).map_or(0, |of| of.layer.size);
            let expected = Some(LayerPath::total(paths)).filter(|bytes| *bytes > 0).unwrap_or(plain);
            jobs.push(Job { at, expected, pieces, known, recorded });
        }
        let packed = self.pack_jobs(&jobs, layers, codec, sink, control);
        if let (Some(cache), Err(error)) = (cache, &packed)
            && error.is_mismatch()
        {
            // Here, too: see `forget_unproven`.
            jobs.iter().filter_map(|job| job.pieces.layer_key()).for_each(|key| cache.forget_unproven(key));
        }
        packed
    }

    fn pack_jobs(
        &self,
        jobs: &[Job<'_>],
        layers: &[Vec<LayerPath>],
        codec: Codec,
        sink: &dyn BlobSink,
        control: &Control<'_>,
    ) -> Result<Vec<PackedLayer>> {
        let cache = self.cache.as_ref();
        let mut packed: Vec<Option<PackedLayer>> = vec![None; layers.len()];
        let mut todo = Vec::new();
        for job in jobs {
            match job.known.filter(|_| !sink.is_wanted(job.at)) {
                Some(known) => {
                    job.recorded.map_or(Ok(()), |recorded| recorded.check(&known.packed, codec))?;
                    packed[job.at] = Some(known.packed);
                }
                None => todo.push(job),
            }
        }
        if !todo.is_empty() {
            let all_known = todo.iter().all(|job| job.expected > 0);
            let expected = if all_known { todo.iter().map(|job| job.expected).sum() } else { 0 };
            control.progress.packing_started(todo.len(), expected);
            let compressor = Compressor::new(codec);
            let made = self.with_pool(|pool| {
                let cores = Cores::new(pool.map_or(1, rayon::ThreadPool::current_num_threads));
                let (compressor, failed) = (&compressor, &AtomicUsize::new(usize::MAX));
                let (cores, check) = (&cores, self.store_check.then_some(&cores));
                pack_on(&todo, &Shared { compressor, cache, sink, control, pool, cores, check, failed })
            })?;
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

impl Packer {
    /// Does `work` with a pool of as many threads as were asked for, of fewer where the system gives no more, or without one.
    /// A scoped pool: its threads have ended when this returns, so a Nix that forks afterwards finds none.
    fn with_pool<T>(&self, work: impl Fn(Option<&rayon::ThreadPool>) -> T) -> T {
        let mut threads = self.threads;
        loop {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|at| format!("nixply-{at}"));
            if let Ok(done) = pool.build_scoped(|thread| thread.run(), |pool| work(Some(pool))) {
                return done;
            }
            threads = match threads {
                0 => thread::available_parallelism().map_or(1, NonZero::get),
                asked => asked,
            } / 2;
            if threads == 0 {
                return work(None);
            }
        }
    }
}

/// Puts what was found out about a layer into the cache.
fn remember(cache: &Cache, job: &Job<'_>, paths: &[LayerPath], packed: &PackedLayer) {
    if let Some(key) = job.pieces.layer_key().filter(|_| job.known.is_none_or(|known| !known.proven)) {
        cache.put_layer(key, packed);
        remember_contents(cache, packed.diff_id, paths);
    }
}

/// Puts the archive hashes of a layer's paths, which are all known, into the cache unless they are there.
fn remember_contents(cache: &Cache, diff_id: DiffId, paths: &[LayerPath]) {
    let hash = |path: &LayerPath| Some((path.path.to_string(), path.nar_hash.clone()?));
    let hashes = paths.iter().filter_map(hash).collect();
    if cache.contents(diff_id).as_ref() != Some(&hashes) {
        cache.put_contents(diff_id, &hashes);
    }
}

/// A layer that is to be packed.
struct Job<'l> {
    at: usize,
    /// About how many bytes its stream will have.
    expected: u64,
    pieces: Pieces<'l>,
    /// What the cache knows of it.
    known: Option<KnownLayer>,
    recorded: Option<Recorded<'l>>,
}

impl Job<'_> {
    /// The layer's number for who listens.
    fn number(&self) -> usize {
        self.recorded.map_or(self.at, |recorded| recorded.place)
    }
}

/// What all layers of a call have in common.
#[derive(Clone, Copy)]
struct Shared<'s> {
    compressor: &'s Compressor,
    cache: Option<&'s Cache>,
    sink: &'s dyn BlobSink,
    control: &'s Control<'s>,
    /// None where the system gives no thread.
    pool: Option<&'s rayon::ThreadPool>,
    cores: &'s Cores,
    /// The same, if the store is to be checked.
    check: Option<&'s Cores>,
    /// The first layer that has failed.
    failed: &'s AtomicUsize,
}

impl Shared<'_> {
    /// An error once the caller wants to stop, or nobody will ask for this layer.
    fn check(&self, layer: usize) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) < layer {
            return Err(Error::Interrupted);
        }
        self.control.check()
    }
}

/// How many layers are in work at once, at most. Without a codec a layer keeps one thread busy with hashing; with one, it
/// is compressing that keeps all of them busy.
fn lanes(threads: usize, codec: Codec) -> usize {
    if codec == Codec::None { threads } else { threads.min(2 + threads / 4) }
}

fn pack_on(jobs: &[&Job<'_>], shared: &Shared<'_>) -> Result<Vec<PackedLayer>> {
    let results: Vec<Mutex<Option<Result<PackedLayer>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let threads = shared.pool.map_or(1, rayon::ThreadPool::current_num_threads);
    // The largest first: a layer's hash is one thread's work, which nothing makes shorter.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(jobs[*at].expected));
    let next = AtomicUsize::new(0);
    let lanes = lanes(threads, shared.compressor.codec()).min(jobs.len());
    let busy = AtomicUsize::new(lanes);
    let lane = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = jobs[*at];
            // One is read, one hashed, one written; those that are compressed are shared out among the busy lanes.
            let most_frames = || 3 + threads.div_ceil(busy.load(Ordering::Relaxed).max(1));
            let result = shared.check(job.at).and_then(|()| lane::pack(job, shared, &most_frames));
            if result.is_err() {
                shared.failed.fetch_min(job.at, Ordering::Relaxed);
            }
            *results[*at].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        busy.fetch_sub(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        // This thread is a lane, too. Where the system gives no more threads, there are fewer.
        let start = |_| thread::Builder::new().spawn_scoped(scope, lane).ok();
        let others: Vec<_> = (1..lanes).map_while(start).collect();
        busy.fetch_sub(lanes - 1 - others.len(), Ordering::Relaxed);
        lane();
        others.into_iter().try_for_each(|lane| lane.join())
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // In the order of the layers, so the first one's error is given: none before it was stopped by another's.
    let results =
        results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.map(|result| result.expect("every lane goes on to the end of the queue")).collect()
}
