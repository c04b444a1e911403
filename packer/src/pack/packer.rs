//! The packer: uses the cache's entries, and packs the other layers.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use nixply_oci::DiffId;

use super::cached::CachedBlob;
use super::fetched::{SegmentSource, Sources, WantedSegment};
use super::job::{Job, Shared};
use super::pieces::{Piece, Pieces};
use super::queue::pack_on;
use super::sink::BlobSink;
use crate::cache::{Cache, LayerKey};
use crate::compress::{Codec, Compressor};
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::Result;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;

/// Packs layers. Has threads only while it packs.
#[derive(Debug, Clone)]
pub struct Packer {
    threads: usize,
    cache: Option<Cache>,
    store_check: bool,
    /// Sources of segments that the cache lacks.
    segments: Sources,
}

impl Packer {
    /// Maximum number of threads, because each takes memory.
    pub const MAX_THREADS: usize = 256;

    /// Creates a packer with this many threads, at most [`Packer::MAX_THREADS`]; 0 means one per core.
    pub fn new(threads: usize) -> Self {
        Self {
            threads: threads.min(Self::MAX_THREADS),
            cache: None,
            store_check: false,
            segments: Sources::default(),
        }
    }

    /// Sets the cache: the packer uses its entries and adds new ones.
    #[must_use]
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        let cache = cache.map(|cache| cache.with_checked(self.store_check));
        Self { cache, ..self }
    }

    /// Sets whether to check the store: the packer hashes the archive of each store path that it reads, and compares the hash with
    /// Nix's. If they differ, it stores no result for the path. With the check, the packer does not use cache entries that were
    /// made without it, but makes them again. Without the check, it uses all entries.
    #[must_use]
    pub fn with_store_check(self, store_check: bool) -> Self {
        let cache = self.cache.map(|cache| cache.with_checked(store_check));
        Self { cache, store_check, ..self }
    }

    /// Sets sources of segments. The packer asks them for those that the cache lacks, before it reads the store.
    #[must_use]
    pub fn with_segments(self, sources: Vec<Arc<dyn SegmentSource>>) -> Self {
        Self { segments: Sources(sources), ..self }
    }

    /// Returns the cache.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Returns whether the packer checks the store.
    pub(crate) fn checks_store(&self) -> bool {
        self.store_check
    }

    /// Returns the key of a layer's content and compression: two layers with the same key have the same digests. Returns
    /// none if a path's archive hash is unknown, and for plain tar.
    pub(crate) fn layer_key(paths: &[LayerPath], codec: Codec) -> Option<LayerKey> {
        if codec == Codec::None { None } else { Pieces::new(paths, codec).layer_key() }
    }

    /// Returns the blob of a layer if the cache has the digests that an earlier packing recorded, and all segments.
    pub fn cached_blob(&self, paths: &[LayerPath], codec: Codec) -> Result<Option<CachedBlob>> {
        self.cache.as_ref().map_or(Ok(None), |cache| CachedBlob::find(cache, paths, codec))
    }

    /// Packs all `layers` and returns their digests in the same order. The digests and the bytes depend only on the layers
    /// and the codec. If several layers fail, returns the error of the first one.
    ///
    /// Does not read a layer that the cache knows, unless the sink needs its bytes.
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
            if let Some((cache, known)) = cache.zip(known.as_ref()) {
                // The entry may come from a spec, or the archive hashes may have been evicted.
                remember_contents(cache, known.packed.diff_id, paths);
            }
            let recorded = sink.recorded(at);
            // A spec has no archives' sizes, but the recorded size of a plain layer is that of its stream.
            let plain = recorded.filter(|of| of.codec.is_none()).map_or(0, |of| of.packed.size);
            let expected = Some(LayerPath::total(paths)).filter(|bytes| *bytes > 0).unwrap_or(plain);
            jobs.push(Job { at, expected, pieces, known, recorded });
        }
        self.fetch_segments(&jobs, codec);
        let packed = self.pack_jobs(&jobs, layers, codec, sink, control);
        if let (Some(cache), Err(error)) = (cache, &packed)
            && error.is_mismatch()
        {
            // These layers may come from the same wrong spec.
            jobs.iter().filter_map(|job| job.pieces.layer_key()).for_each(|key| cache.forget_unproven(key));
        }
        packed
    }

    /// Asks the sources for segments of layers that the cache does not know.
    fn fetch_segments(&self, jobs: &[Job<'_>], codec: Codec) {
        let Some(cache) = &self.cache else { return };
        for source in &self.segments.0 {
            let pieces = jobs.iter().filter(|job| job.known.is_none()).map(|job| &job.pieces);
            let missing = pieces.flat_map(|pieces| {
                pieces.list.iter().enumerate().filter_map(|(at, piece)| {
                    let (Piece::Segment(path), Some(key)) = (piece, pieces.key(at)) else { return None };
                    let wanted = WantedSegment::new(*key, path, codec)?;
                    cache.segment(key).is_none().then_some(wanted)
                })
            });
            let missing: Vec<_> = missing.collect();
            if !missing.is_empty() {
                source.fetch(&missing, cache);
            }
        }
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
            match job.known.as_ref().filter(|_| !sink.is_wanted(job.at)) {
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
                let permits = CpuPermits::new(pool.map_or(1, rayon::ThreadPool::current_num_threads));
                let (compressor, failed) = (&compressor, &AtomicUsize::new(usize::MAX));
                let (permits, check) = (&permits, self.store_check.then_some(&permits));
                pack_on(&todo, &Shared { compressor, cache, sink, control, pool, permits, check, failed })
            })?;
            for (job, made) in todo.iter().zip(made) {
                if let Some(cache) = cache {
                    remember(cache, job, &layers[job.at], &made);
                }
                packed[job.at] = Some(made);
            }
        }
        Ok(packed.into_iter().map(|layer| layer.expect("every layer is known or was packed")).collect())
    }
}

impl Packer {
    /// Calls `work` with a pool of the requested number of threads, of fewer if the system provides no more, or without a
    /// pool. The pool is scoped: its threads have ended when this returns, so a Nix process that forks later has none of
    /// them.
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

/// Stores the digests of a layer and the archive hashes of its paths in the cache.
fn remember(cache: &Cache, job: &Job<'_>, paths: &[LayerPath], packed: &PackedLayer) {
    if let Some(key) = job.pieces.layer_key().filter(|_| job.known.as_ref().is_none_or(|known| !known.proven))
    {
        cache.put_layer(key, packed);
        remember_contents(cache, packed.diff_id, paths);
    }
}

/// Stores the archive hashes of a layer's paths, which must all be known, in the cache unless it has them.
fn remember_contents(cache: &Cache, diff_id: DiffId, paths: &[LayerPath]) {
    let hash = |path: &LayerPath| Some((path.path.to_string(), path.nar_hash()?.to_owned()));
    let hashes = paths.iter().filter_map(hash).collect();
    if cache.contents(diff_id).as_ref() != Some(&hashes) {
        cache.put_contents(diff_id, &hashes);
    }
}
