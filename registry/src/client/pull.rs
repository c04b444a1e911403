//! Pulls an image into a directory in the form of skopeo's transport `dir:`. Source: containers/image, `directory/`.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nixply_files::scratch;
use nixply_oci::Digest;
use nixply_packer::DirectoryHash;
use sha2::{Digest as _, Sha256};

use super::blob::failed;
use super::read::{Reader, RemoteImage};
use crate::error::{Error, Result};

/// Number of blobs that are read at the same time, as in skopeo.
const PARALLEL: usize = 6;

/// The file `version` of the directory.
const VERSION: (&str, &[u8]) = ("version", b"Directory Transport Version: 1.1\n");

/// The file with the manifest.
const MANIFEST: &str = "manifest.json";

impl Reader {
    /// Writes an image to a new directory: `version`, `manifest.json`, and each blob in a file named after its digest's digits. The
    /// directory appears when it is complete. `progress` gets the number of bytes of each piece.
    pub fn pull(&self, image: &RemoteImage, dir: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let blobs = blobs(image);
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        scratch::sweep(parent, |name| {
            let is_blob = |name: &str| format!("sha256:{name}").parse::<Digest>().is_ok();
            name.to_str().is_some_and(|name| name == VERSION.0 || name == MANIFEST || is_blob(name))
        });
        let scratch = scratch::directory(parent).map_err(nixply_packer::Error::from)?;
        let temporary = scratch.dir.path();
        let written = |name: &str| {
            let path = dir.join(name);
            move |source| Error::Write { path: path.clone(), source }
        };
        fs::write(temporary.join(VERSION.0), VERSION.1).map_err(written(VERSION.0))?;
        fs::write(temporary.join(MANIFEST), &image.manifest.bytes).map_err(written(MANIFEST))?;

        // The largest first, so that no large blob is read alone at the end.
        let mut queue: Vec<(Digest, u64)> = blobs.into_iter().collect();
        queue.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let (queue, stop) = (Mutex::new(VecDeque::from(queue)), AtomicBool::new(false));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some((digest, size)) = next().filter(|_| !stop.load(Ordering::Relaxed)) {
                let name = digest.hex();
                let write = || {
                    let mut file = fs::File::create(temporary.join(&name)).map_err(written(&name))?;
                    let mut write = |bytes: &[u8]| {
                        progress(bytes.len() as u64);
                        file.write_all(bytes).map_err(written(&name))
                    };
                    if digest == image.fields.config.digest {
                        return write(&image.config);
                    }
                    self.copy(digest, size, &stop, &mut write)
                };
                write().inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("the thread does not panic")).collect()
        });
        // The first error stops the other threads, which are interrupted then.
        let interrupted = |error: &Error| matches!(error, Error::Packer(nixply_packer::Error::Interrupted));
        let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
        errors.sort_by_key(interrupted);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        fs::rename(temporary, dir).map_err(|source| Error::Write { path: dir.into(), source })?;
        let _ = scratch.dir.keep();
        Ok(())
    }

    /// Returns the SHA-256 of the archive (NAR) of the directory that [`Reader::pull`] writes, without writing it.
    pub fn pulled_hash(&self, image: &RemoteImage, progress: &dyn Fn(u64)) -> Result<[u8; 32]> {
        let mut hash = DirectoryHash::new();
        // Digits are before letters, and the letters of a digest before those of the other names.
        let mut blobs: Vec<(String, Digest, u64)> =
            blobs(image).into_iter().map(|(digest, size)| (digest.hex(), digest, size)).collect();
        blobs.sort();
        for (name, digest, size) in blobs {
            if digest == image.fields.config.digest {
                hash.file(&name, image.config.len() as u64);
                hash.write(&image.config);
                continue;
            }
            hash.file(&name, size);
            self.copy(digest, size, &AtomicBool::new(false), &mut |bytes| {
                progress(bytes.len() as u64);
                hash.write(bytes);
                Ok(())
            })?;
        }
        for (name, content) in [(MANIFEST, &image.manifest.bytes[..]), VERSION] {
            hash.file(name, content.len() as u64);
            hash.write(content);
        }
        Ok(hash.finish())
    }

    /// Reads a blob, and compares its size and digest.
    fn copy(
        &self,
        digest: Digest,
        size: u64,
        stop: &AtomicBool,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut blob, mut hasher, mut read) = (self.blob(digest, size), Sha256::new(), 0);
        let wrong = |why: String| failed(&self.session, digest, io::Error::other(why));
        loop {
            let piece = blob.piece()?;
            if stop.load(Ordering::Relaxed) {
                return Err(nixply_packer::Error::Interrupted.into());
            }
            if piece.is_empty() {
                break;
            }
            read += piece.len() as u64;
            if read > size {
                return Err(wrong(format!("it has more than the {size} bytes that the manifest records")));
            }
            hasher.update(&piece);
            write(&piece)?;
        }
        if read != size {
            return Err(wrong(format!("it has {read} bytes, but the manifest records {size}")));
        }
        match Digest::finish(hasher) {
            found if found == digest => Ok(()),
            found => Err(wrong(format!("its content has the digest {found}"))),
        }
    }
}

/// Returns the blobs of an image, each once, with their sizes in bytes.
fn blobs(image: &RemoteImage) -> BTreeMap<Digest, u64> {
    image.fields.layers.iter().chain([&image.fields.config]).map(|blob| (blob.digest, blob.size)).collect()
}
