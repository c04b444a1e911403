//! The packer: takes what the cache knows, and packs the rest.

use std::num::NonZero;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::cached::CachedBlob;
use super::job::{Job, Shared};
use super::pieces::Pieces;
use super::queue::pack_on;
use super::sink::BlobSink;
use crate::cache::{Cache, LayerKey};
use crate::compress::{Codec, Compressor};
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::digest::DiffId;
use crate::error::Result;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;

/// The packer. It has threads only while it packs.
#[derive(Debug, Clone)]
pub struct Packer {
    threads: usize,
    cache: Option<Cache>,
    store_check: bool,
}

impl Packer {
    /// The most threads that a packer has, because each takes memory.
    pub const MOST_THREADS: usize = 256;

    /// A packer with this many threads; 0 means one per core. More than [`Packer::MOST_THREADS`] count as so many.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.min(Self::MOST_THREADS), cache: None, store_check: false }
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

    /// Names the content of a layer and how it is compressed: whoever knows a layer with this key knows its digests. None
    /// where a path's archive hash is unknown, and of plain tar.
    pub fn layer_key(paths: &[LayerPath], codec: Codec) -> Option<LayerKey> {
        if codec == Codec::None { None } else { Pieces::new(paths, codec).layer_key() }
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
            let plain = recorded.filter(|of| of.codec.is_none()).map_or(0, |of| of.packed.size);
            let expected = Some(LayerPath::total(paths)).filter(|bytes| *bytes > 0).unwrap_or(plain);
            jobs.push(Job { at, expected, pieces, known, recorded });
        }
        let packed = self.pack_jobs(&jobs, layers, codec, sink, control);
        if let (Some(cache), Err(error)) = (cache, &packed)
            && error.is_mismatch()
        {
            // These layers may come from the same wrong spec.
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
    let hash = |path: &LayerPath| Some((path.path.to_string(), path.nar_hash()?.to_owned()));
    let hashes = paths.iter().filter_map(hash).collect();
    if cache.contents(diff_id).as_ref() != Some(&hashes) {
        cache.put_contents(diff_id, &hashes);
    }
}
