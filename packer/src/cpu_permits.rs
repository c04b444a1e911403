//! Limits the number of threads that compute. The packer has more threads than CPUs, and most of them wait for one another.

use std::sync::{Condvar, Mutex, PoisonError};

/// A fixed number of permits, which is the maximum number of threads that compute at once.
pub(crate) struct CpuPermits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A permit in use. Dropping it, even by a panic, frees it.
struct CpuPermit<'c>(&'c CpuPermits);

impl Drop for CpuPermit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl CpuPermits {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Runs `work` once a permit is free. `work` must not wait for another thread's work.
    pub(crate) fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        drop(free);
        let _permit = CpuPermit(self);
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn permits_limit_concurrent_work_and_survive_a_panic() {
        let permits = CpuPermits::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            for at in 0..50 {
                let work = || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    assert!(at < 49, "the last work panics");
                };
                permits.with(work);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            assert!(threads.into_iter().all(|thread| thread.join().is_err()));
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(permits.free.into_inner().unwrap(), 2);
    }
}
