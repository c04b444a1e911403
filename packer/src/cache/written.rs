//! Estimates the cache's size without listing it: its size when it was last trimmed, plus the bytes that all processes have
//! written since. Both are in the file `trimmed`, which one process at a time reads and writes.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nixply_files::file_lock::{self, Locked};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::access;

/// Maximum age at which the file counts. A killed process adds nothing to the file, so an old record may be too low.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// Maximum time that a call waits for other processes that have locked the file, summed over all its waits. Processes lock
/// the file only for a moment, to read and write it. After that time the call continues without the file.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum size of the file, in bytes.
const FILE_BYTES: u64 = 1 << 10;

/// Content of the file.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Record {
    /// Time of the last trim, in seconds since 1970.
    at: u64,
    /// Bytes in the cache at that time.
    bytes: u64,
    /// Bytes written since then.
    written: u64,
}

/// Bytes that this process has written and not yet added to the file. Dropping it adds them to the file, so they count
/// however a call ends.
#[derive(Debug)]
pub(super) struct Written {
    directory: PathBuf,
    bytes: AtomicU64,
    /// Milliseconds that this process has waited for others.
    waited: AtomicU64,
}

impl Written {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.into(), bytes: AtomicU64::new(0), waited: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns whether the cache may have more than `most` bytes: true also when its size is unknown.
    pub(super) fn may_exceed(&self, most: u64) -> bool {
        let Some(record) = self.update(|record| record) else { return self.directory.is_dir() };
        record.bytes.saturating_add(record.written) > most
    }

    /// Returns the number of bytes written since the cache was trimmed.
    pub(super) fn since_trimmed(&self) -> u64 {
        self.update(|record| record).map_or(0, |record| record.written)
    }

    /// Records the cache's size after trimming. The size includes the `included` bytes that [`Written::since_trimmed`] returned
    /// before.
    pub(super) fn trimmed_to(&self, bytes: u64, included: u64) {
        // Does not create the directory of a cache that was never written.
        if let Some(access) = access::of(&self.directory).ok().filter(|_| self.directory.is_dir()) {
            let file = self.file();
            // Anything but a regular file at this path would block every process.
            if fs::symlink_metadata(&file).is_ok_and(|file| !file.is_file()) {
                let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
            }
            let flags = OPEN | OFlags::WRONLY | OFlags::CREATE;
            let _ = rustix::fs::open(file, flags, Mode::from_raw_mode(access.file_mode()));
        }
        self.update(|record| {
            let written = record.map_or(0, |record| record.written.saturating_sub(included));
            Some(Record { at: now(), bytes, written })
        });
    }

    fn file(&self) -> PathBuf {
        self.directory.join("trimmed")
    }

    /// Adds this process's bytes to the record, then changes it, under a lock. Returns the new record. On a file system without
    /// locks, the bytes of one of two processes may be lost.
    fn update(&self, change: impl FnOnce(Option<Record>) -> Option<Record>) -> Option<Record> {
        let mut file = File::from(rustix::fs::open(self.file(), OPEN | OFlags::RDWR, Mode::empty()).ok()?);
        if !file.metadata().ok()?.is_file() || !self.lock(&file) {
            return None;
        }
        let mut text = Vec::new();
        (&file).take(FILE_BYTES).read_to_end(&mut text).ok()?;
        let record: Option<Record> = serde_json::from_slice(&text).ok();
        let young =
            |record: &Record| now().checked_sub(record.at).is_some_and(|age| age < BELIEVED.as_secs());
        let own = self.bytes.swap(0, Ordering::Relaxed);
        let added = |record: Record| Record { written: record.written.saturating_add(own), ..record };
        let record = change(record.filter(young).map(added))?;
        file.rewind().ok()?;
        file.set_len(0).ok()?;
        file.write_all(&serde_json::to_vec(&record).ok()?).ok()?;
        Some(record)
    }
}

/// Does not follow a link at the file's path, and does not wait for the other end of a FIFO.
const OPEN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

impl Written {
    /// Waits for the lock on the file, within the time that is left of [`LOCK_TIMEOUT`]. Returns false if another process still
    /// holds it.
    fn lock(&self, file: &File) -> bool {
        let timeout = LOCK_TIMEOUT.saturating_sub(Duration::from_millis(self.waited.load(Ordering::Relaxed)));
        let begin = Instant::now();
        let Ok(locked) = file_lock::exclusive(file, timeout, || Ok::<(), Infallible>(()));
        let waited = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited, Ordering::Relaxed);
        locked != Locked::Busy
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if *self.bytes.get_mut() > 0 {
            self.update(|record| record);
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
