//! Checks the store: the archive of each path that is read must have the hash that Nix records, and files must have the modes
//! that Nix sets. Reading, packing and checking are one pass over the same bytes. The caller keeps no result of a path before
//! [`StoreCheck::finish`].

use nixply_oci::Digest;
use sha2::{Digest as _, Sha256};

use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};
use crate::layer_path::LayerPath;
use crate::nar::Archive;
use crate::walk::{Entry, Kind, Walker};

/// Number of bytes to collect before hashing them.
const COLLECTED: usize = 256 << 10;

/// Pieces of at least this size are hashed without being copied.
const LARGE: usize = 16 << 10;

/// Description of the directories' mode, for messages.
const ALL_DIRECTORIES: &str = "0555 for all directories";

/// The check of one store path during its walk.
pub(crate) struct StoreCheck<'c> {
    path: &'c LayerPath,
    permits: &'c CpuPermits,
    /// `None` if the path's hash is unknown: then nothing is hashed.
    hashed: Option<(Archive, Sha256)>,
    /// Mode of the path's first directory.
    directories: Option<u32>,
}

impl<'c> StoreCheck<'c> {
    pub(crate) fn new(path: &'c LayerPath, permits: &'c CpuPermits, control: &Control<'_>) -> Self {
        let hashed = path.nar_hash().map(|_| (Archive::new(control.case_hack), Sha256::new()));
        Self { path, permits, hashed, directories: None }
    }

    /// Checks the walk's next entry. Nix sets files to 0444 or 0555 and directories to 0555 (`canonicalisePathMetaData` in its
    /// posix-fs-canonicalise.cc). In a copied store, all directories may have 0755. If only some directories of a store path
    /// have it, a user has changed them: the archive's hash is the same, but the tar stream differs.
    pub(crate) fn entry(&mut self, walker: &Walker, entry: &Entry) -> Result<()> {
        let (wanted, is_right) = match entry.kind {
            Kind::Symlink { .. } => ("", true),
            Kind::Regular { .. } => ("0444 or 0555", matches!(entry.mode, 0o444 | 0o555)),
            Kind::Directory => {
                let first = *self.directories.get_or_insert(entry.mode);
                if (first, entry.mode) == (0o755, 0o555) {
                    let path = self.path.real_path.clone();
                    return Err(Error::StoreMode { mode: first, wanted: ALL_DIRECTORIES, path });
                }
                let is_first_kind = entry.mode == first && matches!(first, 0o555 | 0o755);
                (if first == 0o755 { "0555 or 0755" } else { ALL_DIRECTORIES }, is_first_kind)
            }
        };
        if !is_right {
            return Err(Error::StoreMode { mode: entry.mode, wanted, path: walker.real_path() });
        }
        if let Some((archive, _)) = &mut self.hashed {
            archive.entry(walker.below(), entry);
            self.hash(COLLECTED);
        }
        Ok(())
    }

    /// Adds the next bytes of the file that was last passed to [`StoreCheck::entry`].
    pub(crate) fn content(&mut self, bytes: &[u8]) {
        if bytes.len() >= LARGE {
            self.hash(1);
            let Some((_, hasher)) = &mut self.hashed else { return };
            self.permits.with(|| hasher.update(bytes));
        } else if let Some((archive, _)) = &mut self.hashed {
            archive.bytes.extend_from_slice(bytes);
            self.hash(COLLECTED);
        }
    }

    /// Compares the hash after the whole path has been read.
    pub(crate) fn finish(mut self) -> Result<()> {
        if let Some((archive, _)) = &mut self.hashed {
            archive.end();
        }
        self.hash(1);
        let Some(((_, hasher), expected)) = self.hashed.zip(self.path.nar_hash()) else { return Ok(()) };
        let found = Digest::finish(hasher).to_string();
        if found == expected {
            return Ok(());
        }
        Err(Error::Damaged { path: self.path.path.clone(), expected: expected.to_owned(), found })
    }

    /// Hashes the collected bytes if there are at least `least`.
    fn hash(&mut self, least: usize) {
        if let Some((archive, hasher)) = &mut self.hashed
            && archive.bytes.len() >= least
        {
            self.permits.with(|| hasher.update(&archive.bytes));
            archive.bytes.clear();
        }
    }
}
