//! Locks of files that other processes may hold. A lock ends with its process, so nobody holds one for long; but a process
//! that is stopped does, and any user who can open the file may.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How long a waiting process sleeps between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// The lock is held until the file is closed.
    Held,
    /// Somebody else held it all the time.
    Busy,
    /// The file system has no locks.
    Unknown,
}

/// Takes a lock for this process alone. Waits at most `patience` for whoever has it, and ends earlier with the error of
/// `check`, which it asks all the time.
pub fn exclusive<E>(
    file: &File,
    patience: Duration,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<Locked, E> {
    let end = Instant::now() + patience;
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
    fn nobody_waits_for_longer_than_the_bound_or_after_an_interrupt() {
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
