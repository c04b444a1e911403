//! Packs layers when they are asked for: each once, however many read it, on threads of the packer's own.
//!
//! All packings together have as many threads as one would have: a layer takes those that are free, and no more than it
//! can use; others wait in the order in which they were asked for. So memory has one bound for the whole server.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nixply_packer::cache::Cache;
use nixply_packer::closure::Store;
use nixply_packer::compress::Codec;
use nixply_packer::digest::Digest;
use nixply_packer::image::spec::Layer;
use nixply_packer::pack::{
    BlobSink, BlobWriter, CachedBlob, Control, MOST_THREADS, PackedLayer, Packer, Recorded,
};
use nixply_packer::{Error as PackerError, Result as PackerResult};
use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};

use super::counters::Counters;
use super::frames::Frames;
use super::growing::Growing;
use super::observer::Observer;
use super::proof::{MOST_PASSES, Proving};
use super::pump::Source;
use super::{Options, Report};
use crate::error::{Error, Result};

/// About as many compressed bytes as there are in a frame: more threads than frames have nothing to do.
const BYTES_PER_THREAD: u64 = 1 << 20;

/// A layer that is made of store paths, in one codec.
#[derive(Debug)]
pub(super) struct PackedBlob {
    /// All of the image's layers, and its place among them, from 0.
    layers: Arc<[Layer]>,
    pub(super) place: usize,
    pub(super) codec: Codec,
    /// Digest and size: the spec's, or what packing gave.
    known: OnceLock<(Digest, u64)>,
    /// The bytes, once somebody wanted them.
    growing: Mutex<Option<Arc<Growing>>>,
    /// What has been found out about the cache's bytes.
    pub(super) proving: Arc<Proving>,
}

impl PackedBlob {
    /// The layer at `place` of its image, in this codec. Nothing is packed yet.
    pub(super) fn new(layers: &Arc<[Layer]>, place: usize, codec: Codec) -> Self {
        let (known, layer) = (OnceLock::new(), &layers[place]);
        // No tar stream is empty: a size of 0 is one that nobody has recorded.
        if layer.compression.unwrap_or_default() == codec && layer.size > 0 {
            known.set((layer.digest, layer.size)).expect("it is new");
        }
        Self {
            layers: layers.clone(),
            place,
            codec,
            known,
            growing: Mutex::default(),
            proving: Arc::default(),
        }
    }

    pub(super) fn known(&self) -> Option<(Digest, u64)> {
        self.known.get().copied()
    }

    fn layer(&self) -> &Layer {
        &self.layers[self.place]
    }

    /// Remembers what packing gave, which is what is known.
    fn learn(&self, packed: &PackedLayer) -> PackerResult<()> {
        let (expected, expected_size) = *self.known.get_or_init(|| (packed.digest, packed.size));
        let (found, found_size) = (packed.digest, packed.size);
        if (expected, expected_size) != (found, found_size) {
            let paths = self.layer().paths.iter().map(|path| path.path.to_string()).collect();
            let layer = self.place;
            return Err(PackerError::BlobDiffers {
                layer,
                expected,
                expected_size,
                found,
                found_size,
                paths,
            });
        }
        Ok(())
    }
}

/// Where packing is done.
pub(super) struct Workshop {
    pub(super) store: Store,
    cache: Option<Cache>,
    check_store: bool,
    scratch: PathBuf,
    threads: u32,
    free: Arc<Semaphore>,
    /// One image's digests are found out at a time: two images may share layers.
    learning: tokio::sync::Mutex<()>,
    pub(super) stop: Arc<AtomicBool>,
    report: Report,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) counters: Counters,
    /// Frames that readers of cached blobs share.
    pub(super) frames: Arc<Frames>,
    /// For proofs of blobs.
    pub(super) passes: Semaphore,
}

impl Workshop {
    /// One whose packings end soon after `stop` becomes true.
    pub(super) fn new(options: Options, stop: Arc<AtomicBool>) -> Self {
        let Options { store, cache, threads, check_store, scratch, report, observer, .. } = options;
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { cores() } else { threads }.min(MOST_THREADS);
        Self {
            store,
            cache,
            check_store,
            scratch,
            threads: u32::try_from(threads).expect("it is small"),
            free: Arc::new(Semaphore::new(threads)),
            learning: tokio::sync::Mutex::default(),
            stop,
            report,
            observer,
            counters: Counters::default(),
            frames: Arc::new(Frames::new()),
            passes: Semaphore::new(MOST_PASSES),
        }
    }

    /// How many threads pack at most.
    pub(super) fn threads(&self) -> usize {
        self.threads as usize
    }

    /// Where a layer's bytes are to be had: in the cache, or they are packed.
    pub(super) async fn source(self: &Arc<Self>, blob: &Arc<PackedBlob>) -> Result<Source> {
        let growing = blob.growing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.cache.is_some() && growing.is_none_or(|growing| growing.has_failed()) {
            let (workshop, wanted) = (self.clone(), blob.clone());
            let look = move || workshop.cached(&wanted);
            // Whatever is wrong with the layer, packing it will tell.
            if let Ok(Ok(Some(cached))) = tokio::task::spawn_blocking(look).await {
                return Ok(Source::Cached(Arc::new(cached), blob.clone()));
            }
        }
        self.open(blob).map(Source::Growing)
    }

    /// A layer's blob in the cache, if it is there and is the one that is known.
    fn cached(&self, blob: &PackedBlob) -> PackerResult<Option<CachedBlob>> {
        let packer = Packer::new(1).with_cache(self.cache.clone());
        let cached = packer.cached_blob(&packer.layer_paths(blob.layer(), &self.store)?, blob.codec)?;
        Ok(cached.filter(|cached| {
            let PackedLayer { diff_id, digest, size } = cached.packed();
            diff_id == blob.layer().diff_id && blob.known() == Some((digest, size))
        }))
    }

    /// The bytes of a layer, which begin to be packed unless they are or have been already. What failed before is tried
    /// anew: a store path can be repaired.
    pub(super) fn open(self: &Arc<Self>, blob: &Arc<PackedBlob>) -> Result<Arc<Growing>> {
        let (growing, job) = {
            let mut place = blob.growing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(growing) = place.as_ref().filter(|growing| !growing.has_failed()) {
                return Ok(growing.clone());
            }
            let job = self.job(blob)?;
            (place.insert(job.growing.clone()).clone(), job)
        };
        let workshop = self.clone();
        tokio::spawn(async move {
            let size = job.blob.known().map_or(u64::MAX, |(_, size)| size);
            let useful = usize::try_from(size.div_ceil(BYTES_PER_THREAD)).unwrap_or(usize::MAX);
            let Ok(mut taken) = workshop.free.clone().acquire_owned().await else { return };
            let mut threads = 1;
            while threads < useful.min(workshop.threads as usize) {
                let Ok(more) = workshop.free.clone().try_acquire_owned() else { break };
                taken.merge(more);
                threads += 1;
            }
            let work = move || {
                let (_taken, jobs) = (taken, [job]);
                if let Err(error) = workshop.pack(&jobs, Wanted::Bytes, threads) {
                    // Before readers hear of it, which they do when the job is dropped.
                    workshop.report(&error);
                }
            };
            // It says itself how it went.
            let _ = tokio::task::spawn_blocking(work).await;
        });
        Ok(growing)
    }

    /// Finds out the digests and sizes of those blobs that have none yet: from the cache, or by packing them. Then the
    /// bytes are kept for whoever asks for them next.
    pub(super) async fn learn(self: &Arc<Self>, blobs: &[Arc<PackedBlob>]) -> Result<()> {
        if blobs.iter().all(|blob| blob.known().is_some()) {
            return Ok(());
        }
        let (workshop, blobs) = (self.clone(), blobs.to_vec());
        // A task of its own: an asker that goes away must not lead to a second packing beside this one.
        let task = tokio::spawn(async move {
            let _alone = workshop.learning.lock().await;
            let mut groups: BTreeMap<String, Vec<Job>> = BTreeMap::new();
            for blob in blobs.iter().filter(|blob| blob.known().is_none()) {
                let job = workshop.job(blob)?;
                // Readers of an image whose other layers are known already find it here.
                *blob.growing.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.growing.clone());
                groups.entry(blob.codec.to_string()).or_default().push(job);
            }
            for jobs in groups.into_values() {
                let all = workshop.free.clone().acquire_many_owned(workshop.threads).await;
                let all = all.expect("it is never closed");
                let packing = {
                    let workshop = workshop.clone();
                    move || {
                        let _all = all;
                        workshop.pack(&jobs, Wanted::Digests, workshop.threads as usize)
                    }
                };
                tokio::task::spawn_blocking(packing).await.unwrap_or_else(|_| Err(interrupted()))?;
            }
            Ok(())
        });
        task.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Tells the owner of an error, unless it is that the server stops.
    pub(super) fn report(&self, error: &Error) {
        if !matches!(error, Error::Packer(PackerError::Interrupted)) && !self.stop.load(Ordering::Relaxed) {
            (self.report)(error);
        }
    }

    /// Waits until no digests are found out, and for one of the threads that pack.
    pub(super) async fn alone_with_a_thread(&self) -> (MutexGuard<'_, ()>, Option<OwnedSemaphorePermit>) {
        let alone = self.learning.lock().await;
        (alone, self.free.clone().acquire_owned().await.ok())
    }

    /// An empty blob.
    pub(super) fn scratch_file(&self) -> Result<Growing> {
        let failed = |source| Error::Scratch { folder: self.scratch.clone(), source };
        Growing::new(&self.scratch).map_err(failed)
    }

    fn job(&self, blob: &Arc<PackedBlob>) -> Result<Job> {
        Ok(Job { blob: blob.clone(), growing: Arc::new(self.scratch_file()?) })
    }

    /// Packs layers of one codec. The cache keeps its limit while this server runs, however long that is.
    fn pack(&self, jobs: &[Job], wanted: Wanted, threads: usize) -> Result<()> {
        let packed = self.pack_jobs(jobs, wanted, threads);
        self.cache.iter().for_each(Cache::trim);
        packed
    }

    fn pack_jobs(&self, jobs: &[Job], wanted: Wanted, threads: usize) -> Result<()> {
        let Some(codec) = jobs.first().map(|job| job.blob.codec) else { return Ok(()) };
        let packer = Packer::new(threads).with_cache(self.cache.clone()).with_store_check(self.check_store);
        let paths = |job: &Job| packer.layer_paths(job.blob.layer(), &self.store);
        let layers = jobs.iter().map(paths).collect::<PackerResult<Vec<_>>>()?;
        let sink = Sink { jobs, wanted, counters: &self.counters };
        let control = Control::new(&self.stop, &*self.observer);
        let packed = packer.pack(&layers, codec, &sink, &control).inspect_err(|error| {
            if error.is_mismatch() {
                jobs.iter().for_each(|job| packer.forget_unproven(&job.blob.layers));
            }
        })?;
        for (job, packed) in jobs.iter().zip(&packed) {
            // Nothing was written of a layer that the cache knows: whoever reads it first has it packed. So its empty file
            // is done with before its digest is out.
            job.growing.fail();
            job.blob.learn(packed)?;
        }
        Ok(())
    }
}

/// What packing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Bytes,
    /// The bytes of those layers alone whose digests the cache does not know.
    Digests,
}

fn interrupted() -> Error {
    PackerError::Interrupted.into()
}

/// A blob that is to be packed into a file.
struct Job {
    blob: Arc<PackedBlob>,
    growing: Arc<Growing>,
}

impl Drop for Job {
    /// However packing ended, nobody waits for more.
    fn drop(&mut self) {
        self.growing.fail();
    }
}

struct Sink<'j> {
    jobs: &'j [Job],
    wanted: Wanted,
    counters: &'j Counters,
}

impl BlobSink for Sink<'_> {
    fn is_wanted(&self, _layer: usize) -> bool {
        self.wanted == Wanted::Bytes
    }

    fn recorded(&self, at: usize) -> Option<Recorded<'_>> {
        let blob = &self.jobs[at].blob;
        Some(blob.layer().recorded(blob.place))
    }

    fn open(&self, at: usize) -> PackerResult<Option<Box<dyn BlobWriter>>> {
        self.counters.packing();
        let Job { blob, growing } = &self.jobs[at];
        Ok(Some(Box::new(Writer { blob: blob.clone(), growing: growing.clone(), written: 0 })))
    }
}

struct Writer {
    blob: Arc<PackedBlob>,
    growing: Arc<Growing>,
    written: u64,
}

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> PackerResult<()> {
        // What lies past the recorded end is of no use; that it is there, the digest will tell.
        let room = self.blob.known().map_or(u64::MAX, |(_, size)| size.saturating_sub(self.written));
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.growing.write(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> PackerResult<()> {
        self.blob.learn(packed)?;
        self.growing.finish();
        Ok(())
    }
}
