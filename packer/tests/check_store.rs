//! The check of the store: a path is kept only if its content matches Nix's hash.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nixply_oci::{DiffId, Digest};
use nixply_packer::image::layout;
use nixply_packer::{
    Cache, Codec, Compared, Control, Error, ImageRequest, ImageSpec, Packer, Packing, Progress,
};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::json;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

/// Returns the archive of a directory with one file, built according to the format's definition.
fn archive(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut word = |word: &[u8]| {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    let text = "nix-archive-1 ( type directory entry ( name file node ( type regular contents";
    text.split(' ').for_each(|part| word(part.as_bytes()));
    word(content);
    [")", ")", ")"].iter().for_each(|part| word(part.as_bytes()));
    bytes
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A store of three paths, with a cache next to it.
struct World {
    directory: tempfile::TempDir,
    size: usize,
}

impl World {
    fn new() -> Self {
        Self::of(5_000_001)
    }

    /// Creates a store with files of this size.
    fn of(size: usize) -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap(), size };
        for name in NAMES {
            fs::create_dir_all(world.file(name).parent().unwrap()).unwrap();
            world.put(name, &world.content(name));
        }
        world
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn put(&self, name: &str, content: &[u8]) {
        let (file, directory) = (self.file(name), self.directory_of(name));
        set_mode(&directory, 0o755);
        let _ = fs::remove_file(&file);
        fs::write(&file, content).unwrap();
        set_mode(&file, 0o444);
        set_mode(&directory, 0o555);
    }

    fn store(&self) -> Store {
        Store { dir: "/nix/store".into(), real_dir: self.path().join("store") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().real_file(&path(name)).join("file")
    }

    fn directory_of(&self, name: &str) -> PathBuf {
        self.file(name).parent().unwrap().into()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        // Only b is larger than 5 MB.
        name.repeat(if name == "b" { self.size } else { self.size.min(5_000_001) }).into_bytes()
    }

    fn cache(&self) -> Cache {
        Cache::new(self.path().join("cache"))
    }

    fn packer(&self, check: bool) -> Packer {
        Packer::new(2).with_cache(Some(self.cache())).with_store_check(check)
    }

    fn build(&self, codec: &str, to_root: bool, check: bool) -> Result<ImageSpec, Error> {
        self.build_watched(codec, to_root, check, &())
    }

    fn build_watched(
        &self,
        codec: &str,
        to_root: bool,
        check: bool,
        progress: &dyn Progress,
    ) -> Result<ImageSpec, Error> {
        let infos = NAMES.map(|name| PathInfo {
            path: path(name).parse().unwrap(),
            references: Vec::new(),
            nar_hash: Digest::of(&archive(&self.content(name))).to_string(),
            nar_size: self.size as u64,
        });
        let deps = NAMES.map(path);
        let layer =
            if to_root { json!({"copyToRoot": [deps[1]]}) } else { json!({"deps": deps, "maxLayers": 2}) };
        let request = json!({"arch": "amd64", "compression": codec, "layers": [layer]});
        self.watched(&request, &Closure::new(infos), check, progress)
    }

    fn request(
        &self,
        request: &serde_json::Value,
        closure: &Closure,
        check: bool,
    ) -> Result<ImageSpec, Error> {
        self.watched(request, closure, check, &())
    }

    fn watched(
        &self,
        request: &serde_json::Value,
        closure: &Closure,
        check: bool,
        progress: &dyn Progress,
    ) -> Result<ImageSpec, Error> {
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let control = Control::new(&stop, progress);
        Ok(request.build(closure, &Packing::new(&self.store(), &self.packer(check), &control))?.spec)
    }

    fn layout(&self, spec: &ImageSpec, name: &str) -> Result<(), Error> {
        let (stop, dir) = (AtomicBool::new(false), self.path().join(name));
        let (packer, control) = (self.packer(true), Control::new(&stop, &()));
        layout::write(spec, &dir, "t", None, &Packing::new(&self.store(), &packer, &control)).map(drop)
    }

    fn damage(&self) {
        let mut content = self.content("b");
        content[self.size - 2] ^= 1;
        self.put("b", &content);
    }

    fn repair(&self) {
        self.put("b", &self.content("b"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in NAMES {
            // The file in it can only be removed from a writable directory.
            let _ = fs::set_permissions(self.directory_of(name), fs::Permissions::from_mode(0o755));
        }
    }
}

#[test]
fn a_damaged_path_leaves_no_entry() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        for to_root in [false, true] {
            let world = World::new();
            let truth = world.build(codec, to_root, false).unwrap();
            world.cache().gc(0).unwrap();
            assert_eq!(
                world.build(codec, to_root, true).unwrap(),
                truth,
                "{codec}: the check does not change the bytes"
            );
            world.damage();
            assert_eq!(
                world.build(codec, to_root, true).unwrap(),
                truth,
                "{codec}: a build from the cache does not read the damaged path"
            );
            world.cache().gc(0).unwrap();
            let error = world.build(codec, to_root, true).unwrap_err().to_string();
            let [expected, found] = [world.content("b"), fs::read(world.file("b")).unwrap()]
                .map(|content| Digest::of(&archive(&content)));
            let start = format!(
                "store path is damaged: the hash of its archive is {found}, but Nix recorded {expected}; it was not packed: \
                 repair it with nix-store --repair-path and build again: {}",
                path("b")
            );
            assert!(error.starts_with(&start), "{codec}: {error}");
            world.repair();
            // If the cache had kept damaged bytes, this build would use them without a check.
            assert_eq!(world.build(codec, to_root, false).unwrap(), truth, "{codec}");
        }
    }
}

/// Entries that were packed from a damaged store without the check count as absent for a build with the check. That build
/// replaces them.
#[test]
fn checked_builds_replace_damaged_segments_layers_and_states() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        for to_root in [false, true] {
            // Large enough that the cache keeps hashers' states.
            let world = World::of(34 << 20);
            let truth = world.build(codec, to_root, false).unwrap();
            world.cache().gc(0).unwrap();
            world.damage();
            let wrong = world.build(codec, to_root, false).unwrap();
            assert_ne!(wrong, truth, "without the check, damaged content is packed");
            world.repair();
            assert_eq!(
                world.build(codec, to_root, false).unwrap(),
                wrong,
                "without the check, entries with damaged content are used"
            );
            assert_eq!(world.build(codec, to_root, true).unwrap(), truth, "{codec} {to_root}");
            for kind in ["layers", "segments"] {
                assert_eq!(
                    world.build(codec, to_root, false).unwrap(),
                    truth,
                    "{codec} {to_root}: before the removal of {kind}"
                );
                let _ = fs::remove_dir_all(world.cache().directory().join(kind));
            }
            assert_eq!(
                world.build(codec, to_root, false).unwrap(),
                truth,
                "{codec} {to_root}: with only hash states in the cache"
            );
        }
    }
}

/// Caches of former versions have no record of checks.
#[test]
fn entries_without_a_check_record_are_unchecked() {
    let world = World::new();
    let truth = world.build("zstd:1", false, false).unwrap();
    let layers = || {
        let directories = fs::read_dir(world.cache().directory().join("layers")).unwrap();
        let files = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    assert!(
        layers().iter().all(|text| !text.contains("checked")),
        "unchecked entries have the form of former versions"
    );
    let blob = |check| {
        let packer = world.packer(check);
        let paths = packer.layer_paths(&truth.layers[0], &world.store()).unwrap();
        packer.cached_blob(&paths, "zstd:1".parse::<Codec>().unwrap()).unwrap().is_some()
    };
    assert!(blob(false) && !blob(true));
    assert_eq!(world.build("zstd:1", false, true).unwrap(), truth);
    assert!(blob(false) && blob(true));
    assert!(layers().iter().all(|text| text.contains(r#""checked":true"#)));
    assert!(world.cache().verify().unwrap().removed.is_empty());
}

/// Layers from a spec are unchecked as well.
#[test]
fn imported_layers_are_packed_again_if_the_store_is_checked() {
    let world = World::new();
    let truth = world.build("zstd:1", false, false).unwrap();
    world.cache().gc(0).unwrap();
    let mut lie = truth.clone();
    lie.layers[0].digest = Digest::of(b"a lie");
    lie.layers[0].diff_id = DiffId::of(b"a lie");
    world.cache().import(&lie).unwrap();
    assert_eq!(
        world.build("zstd:1", false, false).unwrap(),
        lie,
        "without the check, the imported digest is used"
    );
    assert_eq!(world.build("zstd:1", false, true).unwrap(), truth);
    assert_eq!(
        world.build("zstd:1", false, false).unwrap(),
        truth,
        "the checked build has replaced the imported digest"
    );
}

/// Changes a byte near the end of b's file after its first bytes were packed and before its last ones are read. If checking and
/// packing were two reads, the check would already have hashed the whole file.
struct Flip<'w>(&'w World, [AtomicU64; 3]);

impl<'w> Flip<'w> {
    fn new(world: &'w World) -> Self {
        Self(world, Default::default())
    }
}

impl Progress for Flip<'_> {
    fn packed(&self, layer: usize, bytes: u64) {
        // After everything that is packed before b, and early enough in b that the read-ahead has not reached the changed byte.
        let flipped = 12 << 20;
        let before = self.1[layer].fetch_add(bytes, Ordering::SeqCst);
        if (before..before + bytes).contains(&flipped) {
            set_mode(&self.0.file("b"), 0o644);
            let file = fs::File::options().write(true).open(self.0.file("b")).unwrap();
            set_mode(&self.0.file("b"), 0o444);
            file.write_all_at(b"x", self.0.size as u64 - 2).unwrap();
        }
    }
}

#[test]
fn packed_bytes_are_the_checked_bytes() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        for to_root in [false, true] {
            // Larger than the read-ahead.
            let world = World::of(48 << 20);
            let truth = world.build(codec, to_root, false).unwrap();
            world.cache().gc(0).unwrap();
            let error = world.build_watched(codec, to_root, true, &Flip::new(&world)).unwrap_err();
            match to_root {
                false => assert!(matches!(error, Error::Damaged { .. }), "{codec}: {error}"),
                // The packer reads the files of a tree at the root twice, and both reads must match.
                true => {
                    assert!(error.to_string().contains("its content changed after its archive was hashed"))
                }
            }
            world.repair();
            assert_eq!(
                world.build(codec, to_root, false).unwrap(),
                truth,
                "{codec}: the cache has no damaged content"
            );
        }
    }
}

/// The check names the wrong mode of any file or directory, also in a tree with rules.
#[test]
fn wrong_modes_are_reported_in_every_tree() {
    let world = World::new();
    for to_root in [false, true] {
        let directory = || world.directory_of("b");
        for (path, mode, right) in [(world.file("b"), 0o4444, 0o444), (directory(), 0o2555, 0o555)] {
            set_mode(&path, mode);
            world.build("none", to_root, false).unwrap();
            let error = world.build("none", to_root, true).unwrap_err();
            assert!(
                matches!(&error, Error::StoreMode { mode: found, path: named, .. } if *found == mode && *named == path),
                "{error}"
            );
            set_mode(&path, right);
        }
        world.build("none", to_root, true).unwrap();
    }
}

/// Rules that leave files out or merge two trees do not exempt any file from the check.
#[test]
fn merged_trees_are_checked_file_by_file() {
    let world = World::of(70_000);
    let infos = NAMES.map(|name| PathInfo {
        path: path(name).parse().unwrap(),
        references: Vec::new(),
        nar_hash: Digest::of(&archive(&world.content(name))).to_string(),
        nar_size: 1,
    });
    // The paths have the same content in one place, and are left out in another.
    let closure = Closure::new(infos);
    let request = json!({"arch": "amd64", "layers": [{"deps": [path("a"), path("b")], "copyToRoot": [path("c")],
        "perms": [{"path": path("b"), "regex": ".*", "mode": "0777"}]}]});
    let truth = world.request(&request, &closure, false).unwrap();
    let fresh = |check| {
        world.cache().gc(0).unwrap();
        world.request(&request, &closure, check)
    };
    assert_eq!(fresh(true).unwrap(), truth);
    for name in NAMES {
        let mut content = world.content(name);
        content[3] ^= 1;
        world.put(name, &content);
        let error = fresh(true).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged { path: named, .. } if named.as_str() == path(name)),
            "{error}"
        );
        world.put(name, &world.content(name));
    }
    assert_eq!(fresh(true).unwrap(), truth);
}

/// The packer's part of `nixply cache verify --store`.
#[test]
fn a_cache_is_compared_with_the_store() {
    let world = World::new();
    let stop = AtomicBool::new(false);
    let compare = || world.cache().compare(&world.store(), &Control::new(&stop, &())).unwrap();
    for to_root in [false, true] {
        let truth = world.build("zstd:1", to_root, false).unwrap();
        world.cache().gc(0).unwrap();
        world.damage();
        world.build("zstd:1", to_root, false).unwrap();
        world.repair();
        let found = compare();
        let all = if to_root { 1 } else { 3 };
        assert_eq!((found.same, found.different.len(), found.gone), (all - 1, 1, 0), "{found:?}");
        assert!(found.forgotten > 0 && found.unproven.is_empty() && found.unnamed == 0, "{found:?}");
        assert_eq!(world.build("zstd:1", to_root, false).unwrap(), truth, "{to_root}");
        assert_eq!(compare().same, all);
        // The entries count as checked, as if they had been checked during packing.
        fs::rename(world.store().real_dir, world.path().join("away")).unwrap();
        assert_eq!(world.build("zstd:1", to_root, true).unwrap(), truth, "{to_root}");
        assert_eq!((compare().gone, compare().same), (all, 0));
        fs::rename(world.path().join("away"), world.store().real_dir).unwrap();
        world.damage();
        let found = compare();
        assert_eq!((found.same, found.unproven.len()), (all - 1, 1), "{found:?}");
        assert!(found.unproven[0].1.contains("store path is damaged"), "{found:?}");
        world.repair();
        world.cache().gc(0).unwrap();
    }
    assert_eq!(compare(), Compared::default(), "an empty cache has nothing to compare");
}

/// A spec has no hashes of archives, but the cache does.
#[test]
fn a_layout_is_checked_if_hashes_are_known() {
    let world = World::new();
    let truth = world.build("zstd:1", false, false).unwrap();
    fs::remove_dir_all(world.cache().directory().join("segments")).unwrap();
    world.damage();
    let error = world.layout(&truth, "damaged").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::remove_dir_all(world.cache().directory()).unwrap();
    let error = world.layout(&truth, "unknown").unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "the spec's digests reveal the damage: {error}");
    world.repair();
    world.layout(&truth, "repaired").unwrap();
}

#[test]
fn a_closure_without_hashes_cannot_be_checked() {
    let world = World::new();
    let info = PathInfo {
        path: path("a").parse().unwrap(),
        references: Vec::new(),
        nar_hash: String::new(),
        nar_size: 0,
    };
    let request = json!({"arch": "amd64", "layers": [{"deps": [path("a")]}]});
    let closure = Closure::new([info]);
    world.request(&request, &closure, false).unwrap();
    let error = world.request(&request, &closure, true).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("closure, store path {} is not valid: it has no narHash", path("a"))),
        "{error}"
    );
    assert!(error.contains("narHash"), "{error}");
}
