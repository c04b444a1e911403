//! Compares the cache with the store, for users who no longer trust entries that were made without a check.

use std::fs;
use std::path::Path;

use nixply_planning::Store;

use super::pieces::Pieces;
use crate::cache::{Cache, Compared, SegmentReader, SegmentWriter, Stored};
use crate::compress::{Decompressor, FRAME_BYTES};
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};
use crate::layer_path::LayerPath;
use crate::tar::{Fill, LayerStream, Reading};

impl Cache {
    /// Reads the store paths of every segment in the cache's own directory. Compares their archives' hashes with Nix's, their
    /// modes with those that Nix leaves, and their bytes with the segment. Removes segments that differ or cannot be checked,
    /// and the digests and states of layers that were packed without a check.
    ///
    /// # Errors
    ///
    /// The caller wants to stop, or the cache cannot be read or changed.
    pub fn compare(&self, store: &Store, control: &Control<'_>) -> Result<Compared> {
        self.check_removal()?;
        let mut compared = Compared::default();
        let checked = self.clone().with_checked(true);
        for (file, key) in self.own_segments()? {
            control.check()?;
            let Some(mut reader) = self.own_segment(&file, &key) else { continue };
            let Some(origin) = reader.origin().filter(|origin| origin.key() == key) else {
                remove(&file)?;
                compared.unnamed += 1;
                continue;
            };
            let mut paths = Vec::new();
            for (planned, nar_hash) in origin.paths() {
                store.check(planned.path.as_str())?;
                paths.push(LayerPath::new(&planned, store)?.with_archive(nar_hash, 0));
            }
            if paths.iter().any(|path| fs::symlink_metadata(&path.real_path).is_err()) {
                compared.gone += 1;
                continue;
            }
            let pieces = Pieces::new(&paths, origin.codec());
            let Some(at) = (0..pieces.len()).find(|at| pieces.key(*at) == Some(&key)) else {
                remove(&file)?;
                compared.unnamed += 1;
                continue;
            };
            let permits = CpuPermits::new(1);
            let reading = Reading { control, check: Some(&permits) };
            let same = pieces.stream(at, reading).and_then(|stream| {
                let copy = checked.new_segment(&key, &origin);
                is_same(&mut reader, stream, Decompressor::new(origin.codec())?, copy, control)
            });
            match same {
                Ok(true) => compared.same += 1,
                Ok(false) => {
                    remove(&file)?;
                    compared.different.push(file);
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    remove(&file)?;
                    compared.unproven.push((file, error.chain()));
                }
            }
        }
        compared.forgotten = self.forget_unchecked()?;
        compared.different.sort();
        compared.unproven.sort();
        Ok(compared)
    }
}

/// Returns whether a segment has the bytes of the store's stream. If so, replaces it with a copy that is marked as checked.
fn is_same(
    segment: &mut SegmentReader,
    mut stream: LayerStream<'_>,
    mut decompressor: Decompressor,
    mut copy: Option<SegmentWriter>,
    control: &Control<'_>,
) -> Result<bool> {
    let (mut plain, mut stored) = (vec![0; FRAME_BYTES], vec![0; FRAME_BYTES]);
    let mut compressed = Vec::new();
    let mut same = true;
    loop {
        control.check()?;
        // Reads to the end even if the segment differs, because this also checks the store path.
        let (length, fill) = stream.fill(&mut plain, true)?;
        if same {
            same = match (segment.next(&mut compressed), fill) {
                (Stored::End, Fill::End) => true,
                (Stored::Frame(frame), Fill::Frame) => {
                    frame == length
                        && decompressor.frame(&compressed, &mut stored[..frame])
                        && stored[..frame] == plain[..length]
                }
                _ => false,
            };
        }
        if same && fill == Fill::Frame {
            copy = copy.and_then(|copy| copy.add(length, &compressed));
        }
        if fill == Fill::End {
            if same {
                // If the cache cannot be written, the old segment stays. It has the same bytes.
                let _ = copy.and_then(SegmentWriter::finish);
            }
            return Ok(same);
        }
    }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove file", file, error))
        }
        _ => Ok(()),
    }
}
