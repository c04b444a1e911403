//! A store path to pack, in a temporary store.

use std::sync::atomic::AtomicBool;

use nixply_packer::{Control, LayerPath, PackedLayer, Packer};
use nixply_planning::{PlannedPath, Store};
use tempfile::TempDir;

/// A store with one path, in a temporary directory.
pub(crate) struct Sample {
    directory: TempDir,
}

/// The name of the path.
const BASE: &str = "00000000000000000000000000000000-path";

impl Sample {
    /// Creates a store path with these files. A name may contain directories.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in files {
            let file = directory.path().join(BASE).join(name);
            std::fs::create_dir_all(file.parent().expect("it has a parent")).expect("it is writable");
            std::fs::write(file, bytes).expect("a temporary file");
        }
        Self { directory }
    }

    /// Returns a layer with the path and an archive hash, without which the cache stores nothing.
    pub(crate) fn layer(&self) -> Vec<LayerPath> {
        let store = Store { dir: "/nix/store".into(), real_dir: self.directory.path().into() };
        let path =
            PlannedPath { path: format!("/nix/store/{BASE}").parse().expect("a store path"), options: None };
        let path = LayerPath::new(&path, &store).expect("a path without rules is valid");
        vec![path.with_archive("sha256-of-the-sample", 0)]
    }

    /// Packs the layer only to compute its digests.
    pub(crate) fn pack(&self, packer: &Packer, codec: &str) -> PackedLayer {
        let (codec, stop) = (codec.parse().expect("a codec"), AtomicBool::new(false));
        let packed = packer.pack(&[self.layer()], codec, &(), &Control::new(&stop, &()));
        packed.expect("it packs")[0]
    }
}

/// Returns bytes that compress to about half, like programs: noise, and copies of earlier bytes, most of them near.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut below = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % most
    };
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        bytes.extend((0..4 + below(12)).map(|_| below(64) as u8));
        let near = 16 << below(18);
        let from = bytes.len() - 1 - below(near.min(bytes.len()));
        bytes.extend_from_within(from..(from + 4 + below(28)).min(bytes.len()));
    }
    bytes.truncate(length);
    bytes
}
