//! A blob that clients read while it is packed. Its bytes go to a file without a name, so nothing remains
//! after the process ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nixply_packer::Error;
use tokio::sync::watch;

/// The file and the state of its packing.
#[derive(Debug)]
pub(crate) struct PartialBlob {
    file: File,
    directory: PathBuf,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    written: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Packing,
    /// Complete, and the digest is right.
    Whole,
    Failed,
}

/// Packing has failed, or the blob differs from its spec. The reason has been reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Progress {
    /// Returns how much of a blob of `size` bytes may be sent. The last byte is held back until the digest is
    /// right, so that no client takes a wrong blob for a complete one.
    fn readable(&self, size: u64) -> u64 {
        match self.state {
            State::Whole => size,
            State::Packing | State::Failed => self.written.min(size.saturating_sub(1)),
        }
    }
}

impl PartialBlob {
    /// Creates an empty blob in this directory.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let progress = watch::Sender::new(Progress { written: 0, state: State::Packing });
        Ok(Self { file: tempfile::tempfile_in(directory)?, directory: directory.into(), progress })
    }

    /// Adds bytes, which the packer passes in order from one thread at a time.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(|source| {
            nixply_files::Error::io("write a packed layer below", &self.directory, source)
        })?;
        self.progress.send_modify(|progress| progress.written = at + bytes.len() as u64);
        Ok(())
    }

    /// Marks the blob as complete and right.
    pub(crate) fn finish(&self) {
        self.progress.send_modify(|progress| progress.state = State::Whole);
    }

    /// Marks the blob as failed, unless it is complete.
    pub(crate) fn fail(&self) {
        self.progress.send_if_modified(|progress| {
            let packing = progress.state == State::Packing;
            if packing {
                progress.state = State::Failed;
            }
            packing
        });
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.progress.borrow().state == State::Failed
    }

    /// Waits until a blob with `size` bytes can be read at `at`. Returns the end of the readable bytes.
    pub(crate) async fn readable(&self, at: u64, size: u64) -> Result<u64, Failed> {
        let mut progress = self.progress.subscribe();
        let ready = |progress: &Progress| progress.state == State::Failed || progress.readable(size) > at;
        let progress = *progress.wait_for(ready).await.map_err(|_| Failed)?;
        // Bytes before a failure belong to a blob that no client will receive completely.
        if progress.state == State::Failed { Err(Failed) } else { Ok(progress.readable(size)) }
    }

    /// Reads exactly `count` bytes, which must have been written, into the beginning of a buffer.
    pub(crate) fn read(&self, at: u64, count: usize, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        if buffer.len() < count {
            buffer.resize(count, 0);
        }
        self.file.read_exact_at(&mut buffer[..count], at)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn blob() -> PartialBlob {
        PartialBlob::new(&std::env::temp_dir()).unwrap()
    }

    #[tokio::test]
    async fn last_byte_is_held_back_until_the_digest_is_right() {
        let blob = blob();
        blob.write(0, b"abc").unwrap();
        assert_eq!(blob.readable(0, 10).await, Ok(3));
        blob.write(3, b"defghij").unwrap();
        assert_eq!(blob.readable(3, 10).await, Ok(9));
        let waits = tokio::time::timeout(Duration::from_millis(20), blob.readable(9, 10)).await;
        assert!(waits.is_err());
        blob.finish();
        assert_eq!(blob.readable(9, 10).await, Ok(10));
        assert_eq!(&blob.read(2, 8, vec![7; 20]).unwrap()[..8], b"cdefghij");
        // A complete blob cannot fail.
        blob.fail();
        assert_eq!(blob.readable(0, 10).await, Ok(10));
    }

    #[tokio::test]
    async fn waiting_readers_fail_when_packing_fails() {
        let blob = std::sync::Arc::new(blob());
        blob.write(0, b"abc").unwrap();
        let reader = tokio::spawn({
            let blob = blob.clone();
            async move { blob.readable(3, 10).await }
        });
        tokio::task::yield_now().await;
        blob.fail();
        assert_eq!(reader.await.unwrap(), Err(Failed));
        assert!(blob.has_failed());
        assert_eq!(blob.readable(0, 10).await, Err(Failed));
    }

    #[test]
    fn files_have_no_names() {
        let directory = tempfile::tempdir().unwrap();
        let blob = PartialBlob::new(directory.path()).unwrap();
        blob.write(0, b"abc").unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
