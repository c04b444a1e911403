//! Packs layers on demand, each once for all its readers, on the packer's threads.
//!
//! All packings share one pool of threads. A layer takes the free threads that it can use; further layers
//! wait in the order of their requests. So the memory of the whole server is bounded.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use nixply_packer::{
    BlobSink, BlobWriter, Cache, CachedBlob, Control, Error as PackerError, PackedLayer, Packer, Recorded,
    Result as PackerResult,
};
use nixply_planning::Store;
use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};

use super::counters::Counters;
use super::failures::Failures;
use super::frames::Frames;
use super::observer::Observer;
use super::packed_blob::PackedBlob;
use super::partial_blob::PartialBlob;
use super::proof::Passes;
use super::settings::{RealisePaths, Settings};
use crate::error::{Error, Result};

/// Approximate compressed size of a frame. Threads beyond the number of frames would be idle.
const BYTES_PER_THREAD: u64 = 1 << 20;

/// Packs layers, and holds the state that all readers of blobs share.
pub(crate) struct PackQueue {
    pub(crate) store: Store,
    cache: Option<Cache>,
    check_store: bool,
    scratch: PathBuf,
    threads: u32,
    free: Arc<Semaphore>,
    /// Serializes the search for digests, because two images may share layers.
    finding_digests: tokio::sync::Mutex<()>,
    pub(crate) failures: Failures,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) counters: Counters,
    /// Frames that readers of cached blobs share.
    pub(crate) frames: Arc<Frames>,
    realise: Arc<dyn RealisePaths>,
    /// Limit on passes that prove blobs.
    pub(crate) passes: Arc<Passes>,
}

impl PackQueue {
    /// Creates a queue. Its packings end soon after `stop` becomes true.
    pub(crate) fn new(settings: Settings, stop: Arc<AtomicBool>) -> Self {
        let Settings { store, cache, threads, check_store, scratch, report, observer, realise, .. } =
            settings;
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { cores() } else { threads }.min(Packer::MAX_THREADS);
        let failures = Failures::new(report, stop);
        Self {
            store,
            cache,
            check_store,
            scratch,
            threads: u32::try_from(threads).expect("Packer::MAX_THREADS limits the number"),
            free: Arc::new(Semaphore::new(threads)),
            finding_digests: tokio::sync::Mutex::default(),
            passes: Passes::new(failures.clone()),
            failures,
            observer,
            realise,
            counters: Counters::default(),
            frames: Arc::new(Frames::new()),
        }
    }

    /// Number of packing threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads as usize
    }

    /// Returns the layer's blob in the cache. None if the cache lacks it, or if this server has packed the layer already.
    pub(crate) async fn find_cached(self: &Arc<Self>, blob: &Arc<PackedBlob>) -> Option<Arc<CachedBlob>> {
        let partial = blob.partial.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.cache.is_none() || partial.is_some_and(|partial| !partial.has_failed()) {
            return None;
        }
        let (queue, wanted) = (self.clone(), blob.clone());
        let look = move || queue.cached(&wanted);
        // Packing reports any problem with the layer.
        tokio::task::spawn_blocking(look).await.ok()?.ok()?.map(Arc::new)
    }

    /// Returns the layer's blob in the cache if its digest and size are the expected ones.
    pub(crate) fn cached(&self, blob: &PackedBlob) -> PackerResult<Option<CachedBlob>> {
        let packer = Packer::new(1).with_cache(self.cache.clone());
        let cached = packer.cached_blob(&packer.layer_paths(blob.layer(), &self.store)?, blob.codec)?;
        Ok(cached.filter(|cached| {
            let PackedLayer { diff_id, digest, size } = cached.packed();
            diff_id == blob.layer().diff_id && blob.digest_and_size() == Some((digest, size))
        }))
    }

    /// Returns the bytes of a layer, and starts to pack it if that has not been done. Packs again after a
    /// failure, because store paths can be repaired.
    pub(crate) fn open(self: &Arc<Self>, blob: &Arc<PackedBlob>) -> Result<Arc<PartialBlob>> {
        let (partial, job) = {
            let mut slot = blob.partial.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(partial) = slot.as_ref().filter(|partial| !partial.has_failed()) {
                return Ok(partial.clone());
            }
            let job = self.job(blob)?;
            (slot.insert(job.partial.clone()).clone(), job)
        };
        let queue = self.clone();
        tokio::spawn(async move {
            let size = job.blob.digest_and_size().map_or(u64::MAX, |(_, size)| size);
            let useful = usize::try_from(size.div_ceil(BYTES_PER_THREAD)).unwrap_or(usize::MAX);
            let Ok(mut taken) = queue.free.clone().acquire_owned().await else { return };
            let mut threads = 1;
            while threads < useful.min(queue.threads as usize) {
                let Ok(more) = queue.free.clone().try_acquire_owned() else { break };
                taken.merge(more);
                threads += 1;
            }
            let work = move || {
                let (_taken, jobs) = (taken, [job]);
                if let Err(error) = queue.pack(&jobs, Purpose::Bytes, threads) {
                    // Report before the readers fail, which they do when the job is dropped.
                    queue.failures.report(error);
                }
            };
            // The task reports its own errors.
            let _ = tokio::task::spawn_blocking(work).await;
        });
        Ok(partial)
    }

    /// Finds the digests and sizes that are still unknown: in the cache, or by packing. Keeps the packed
    /// bytes for later readers.
    pub(crate) async fn find_digests(self: &Arc<Self>, blobs: &[Arc<PackedBlob>]) -> Result<()> {
        if blobs.iter().all(|blob| blob.digest_and_size().is_some()) {
            return Ok(());
        }
        let (queue, blobs) = (self.clone(), blobs.to_vec());
        // A separate task: a client that goes away must not cause a second packing of the same layers.
        let task = tokio::spawn(async move {
            let _alone = queue.finding_digests.lock().await;
            let mut groups: BTreeMap<String, Vec<Job>> = BTreeMap::new();
            for blob in blobs.iter().filter(|blob| blob.digest_and_size().is_none()) {
                let job = queue.job(blob)?;
                // Readers of another image with this layer find it here.
                *blob.partial.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.partial.clone());
                groups.entry(blob.codec.to_string()).or_default().push(job);
            }
            for jobs in groups.into_values() {
                let all = queue.free.clone().acquire_many_owned(queue.threads).await;
                let all = all.expect("the semaphore is never closed");
                let packing = {
                    let queue = queue.clone();
                    move || {
                        let _all = all;
                        queue.pack(&jobs, Purpose::Digests, queue.threads as usize)
                    }
                };
                tokio::task::spawn_blocking(packing).await.unwrap_or_else(|_| Err(interrupted()))?;
            }
            Ok(())
        });
        task.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Waits for a packing thread, and until no digests are being searched for.
    pub(crate) async fn exclusive_thread(&self) -> (MutexGuard<'_, ()>, Option<OwnedSemaphorePermit>) {
        let alone = self.finding_digests.lock().await;
        (alone, self.free.clone().acquire_owned().await.ok())
    }

    /// Creates an empty blob.
    pub(crate) fn scratch_file(&self) -> Result<PartialBlob> {
        let failed = |source| Error::Scratch { directory: self.scratch.clone(), source };
        PartialBlob::new(&self.scratch).map_err(failed)
    }

    fn job(&self, blob: &Arc<PackedBlob>) -> Result<Job> {
        Ok(Job { blob: blob.clone(), partial: Arc::new(self.scratch_file()?) })
    }

    /// Packs layers of one codec, then trims the cache, which must keep its limit while the server runs.
    fn pack(&self, jobs: &[Job], purpose: Purpose, threads: usize) -> Result<()> {
        let packed = self.pack_jobs(jobs, purpose, threads);
        self.cache.iter().for_each(Cache::trim);
        packed
    }

    fn pack_jobs(&self, jobs: &[Job], purpose: Purpose, threads: usize) -> Result<()> {
        let Some(codec) = jobs.first().map(|job| job.blob.codec) else { return Ok(()) };
        let packer = Packer::new(threads).with_cache(self.cache.clone()).with_store_check(self.check_store);
        for job in jobs {
            if self.failures.stopping() {
                return Err(interrupted());
            }
            let paths: Vec<_> = job.blob.layer().paths.iter().map(|path| &path.path).collect();
            let layer = job.blob.index;
            self.realise.realise(layer, &paths).map_err(|why| Error::Realise { layer, why })?;
        }
        let paths = |job: &Job| packer.layer_paths(job.blob.layer(), &self.store);
        let layers = jobs.iter().map(paths).collect::<PackerResult<Vec<_>>>()?;
        let sink = Sink { jobs, purpose, counters: &self.counters };
        let control = Control::new(&self.failures.stop, &*self.observer);
        let packed = packer.pack(&layers, codec, &sink, &control).inspect_err(|error| {
            if error.is_mismatch() {
                jobs.iter().for_each(|job| packer.forget_unproven(&job.blob.layers));
            }
        })?;
        for (job, packed) in jobs.iter().zip(&packed) {
            // The packer writes no bytes of a layer that the cache knows: the layer is packed for its first reader. Close the empty
            // file before the digest is published.
            job.partial.fail();
            job.blob.check_or_record(packed)?;
        }
        Ok(())
    }
}

/// The purpose of a packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Bytes,
    /// Digests; bytes only of layers that the cache does not know.
    Digests,
}

fn interrupted() -> Error {
    PackerError::Interrupted.into()
}

/// A blob to be packed into a file.
struct Job {
    blob: Arc<PackedBlob>,
    partial: Arc<PartialBlob>,
}

impl Drop for Job {
    /// Ends the wait of all readers, however packing ended.
    fn drop(&mut self) {
        self.partial.fail();
    }
}

struct Sink<'j> {
    jobs: &'j [Job],
    purpose: Purpose,
    counters: &'j Counters,
}

impl BlobSink for Sink<'_> {
    fn is_wanted(&self, _layer: usize) -> bool {
        self.purpose == Purpose::Bytes
    }

    fn recorded(&self, at: usize) -> Option<Recorded<'_>> {
        let blob = &self.jobs[at].blob;
        Some(blob.layer().recorded(blob.index))
    }

    fn open(&self, at: usize) -> PackerResult<Option<Box<dyn BlobWriter>>> {
        self.counters.packing();
        let Job { blob, partial } = &self.jobs[at];
        Ok(Some(Box::new(Writer { blob: blob.clone(), partial: partial.clone(), written: 0 })))
    }
}

struct Writer {
    blob: Arc<PackedBlob>,
    partial: Arc<PartialBlob>,
    written: u64,
}

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> PackerResult<()> {
        // Drop bytes beyond the recorded size. The digest will show that there were some.
        let room =
            self.blob.digest_and_size().map_or(u64::MAX, |(_, size)| size.saturating_sub(self.written));
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.partial.write(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> PackerResult<()> {
        self.blob.check_or_record(packed)?;
        self.partial.finish();
        Ok(())
    }
}
