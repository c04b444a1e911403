//! Distributes the layers of a call among lanes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::job::{Job, Shared};
use super::lane;
use crate::compress::Codec;
use crate::error::Result;
use crate::layer::PackedLayer;

/// Returns the maximum number of layers in work at once. Without a codec, hashing keeps one thread busy for each layer; with
/// a codec, compression keeps all threads busy.
fn lanes(threads: usize, codec: Codec) -> usize {
    if codec == Codec::None { threads } else { threads.min(2 + threads / 4) }
}

pub(super) fn pack_on(jobs: &[&Job<'_>], shared: &Shared<'_>) -> Result<Vec<PackedLayer>> {
    let results: Vec<Mutex<Option<Result<PackedLayer>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let threads = shared.pool.map_or(1, rayon::ThreadPool::current_num_threads);
    // Starts with the largest layers: a single thread hashes a layer, and more threads cannot speed it up.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(jobs[*at].expected));
    let next = AtomicUsize::new(0);
    let lanes = lanes(threads, shared.compressor.codec()).min(jobs.len());
    let busy = AtomicUsize::new(lanes);
    let lane = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = jobs[*at];
            // One frame is being read, one hashed and one written. The busy lanes share the frames that are being
            // compressed.
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
        // This thread is also a lane. If the system provides no more threads, there are fewer lanes.
        let start = |_| thread::Builder::new().spawn_scoped(scope, lane).ok();
        let others: Vec<_> = (1..lanes).map_while(start).collect();
        busy.fetch_sub(lanes - 1 - others.len(), Ordering::Relaxed);
        lane();
        others.into_iter().try_for_each(|lane| lane.join())
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // Returns the error of the lowest failed layer. A failure stops only the layers above, so this error is the layer's own.
    let results =
        results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.map(|result| result.expect("the lanes take every layer of the queue")).collect()
}
