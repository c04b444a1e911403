//! Shares the layers of a call out among lanes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::job::{Job, Shared};
use super::lane;
use crate::compress::Codec;
use crate::error::Result;
use crate::layer::PackedLayer;

/// How many layers are in work at once, at most. Without a codec a layer keeps one thread busy with hashing; with one, it
/// is compressing that keeps all of them busy.
fn lanes(threads: usize, codec: Codec) -> usize {
    if codec == Codec::None { threads } else { threads.min(2 + threads / 4) }
}

pub(super) fn pack_on(jobs: &[&Job<'_>], shared: &Shared<'_>) -> Result<Vec<PackedLayer>> {
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
