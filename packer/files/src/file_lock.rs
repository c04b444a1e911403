//! Locks of files that other processes may lock as well. A lock ends with its process, so most locks are short. But a stopped
//! process keeps its lock, and any user who can open the file can lock it.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Time that a waiting process sleeps between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Result of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// The lock is held until the file is closed.
    Held,
    /// Another process held the lock the whole time.
    Busy,
    /// The file system has no locks.
    Unknown,
}

/// Takes an exclusive lock. Waits at most `timeout` for another process to release it. Calls `check` repeatedly meanwhile, and
/// returns its error at once.
pub fn exclusive<E>(
    file: &File,
    timeout: Duration,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<Locked, E> {
    let end = Instant::now() + timeout;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Locked::Held),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(_) => return Ok(Locked::Unknown),
        }
        check()?;
        if Instant::now() >= end {
            return Ok(Locked::Busy);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_at_the_timeout_or_at_an_interrupt() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let (holder, other) = (open(), open());
        let fine = || Ok::<(), ()>(());
        assert_eq!(exclusive(&holder, Duration::ZERO, fine), Ok(Locked::Held));
        assert_eq!(exclusive(&other, Duration::from_millis(30), fine), Ok(Locked::Busy));
        assert_eq!(exclusive(&other, Duration::from_secs(9999), || Err("interrupted")), Err("interrupted"));
        drop(holder);
        assert_eq!(exclusive(&other, Duration::ZERO, fine), Ok(Locked::Held));
    }
}
