//! Frames that another machine has compressed: the packer takes them over only if they are those that it would make.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use nixply_oci::Digest;
use nixply_packer::image::layout;
use nixply_packer::{
    Cache, Codec, Control, FRAME_BYTES, FrameIndex, ImageRequest, ImageSpec, Packer, Packing, SegmentSource,
    WantedSegment,
};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::{Value, json};

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
const B: &str = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b";

/// A store with two paths, whose hashes are those that Nix would record.
struct World {
    directory: tempfile::TempDir,
    closure: Closure,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut infos = Vec::new();
        for (path, references) in [(A, vec![]), (B, vec![A])] {
            let root = directory.path().join("store").join(path.rsplit('/').next().unwrap());
            fs::create_dir_all(root.join("bin")).unwrap();
            fs::create_dir_all(root.join("share").join("n".repeat(120))).unwrap();
            fs::write(root.join("bin/run"), path).unwrap();
            fs::write(root.join("share/empty"), "").unwrap();
            // Frames that are not compressible, so that the codec has something to do wrong.
            let noise: Vec<u8> =
                (0..2 * FRAME_BYTES + 777).map(|at| blake3::hash(&at.to_le_bytes()).as_bytes()[0]).collect();
            fs::write(root.join("share/noise"), if path == A { &noise[..] } else { &noise[..999] }).unwrap();
            symlink("../share/noise", root.join("bin/link")).unwrap();
            seal(&root);
            infos.push(PathInfo {
                path: path.parse().unwrap(),
                references: references.iter().map(|path: &&str| path.parse().unwrap()).collect(),
                nar_hash: format!("sha256:{}", Digest::of(&archive(&root)).hex()),
                nar_size: 1,
            });
        }
        Self { directory, closure: Closure::new(infos) }
    }

    fn cache(&self, name: &str) -> Cache {
        Cache::new(self.directory.path().join(name))
    }

    fn store(&self) -> Store {
        Store { dir: "/nix/store".into(), real_dir: self.directory.path().join("store") }
    }

    /// Builds an image with this cache and these sources.
    fn build(
        &self,
        cache: &Cache,
        codec: &str,
        layers: u32,
        sources: Vec<Arc<dyn SegmentSource>>,
    ) -> ImageSpec {
        let request = json!({
            "name": "i", "layers": [{"deps": [B], "maxLayers": layers}], "compression": codec,
        });
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let stop = AtomicBool::new(false);
        let packer = Packer::new(2).with_cache(Some(cache.clone())).with_segments(sources);
        let (store, control) = (self.store(), Control::new(&stop, &()));
        request.build(&self.closure, &Packing::new(&store, &packer, &control)).unwrap().spec
    }

    /// Returns the blobs of an image, and the index of its frames.
    fn blobs(&self, cache: &Cache, spec: &ImageSpec) -> (Files, FrameIndex) {
        let stop = AtomicBool::new(false);
        let packer = Packer::new(1).with_cache(Some(cache.clone()));
        let (store, control, directory) =
            (self.store(), Control::new(&stop, &()), self.directory.path().join("layout"));
        layout::write(spec, &directory, "t", None, &Packing::new(&store, &packer, &control)).unwrap();
        let (mut blobs, mut index) = (BTreeMap::new(), FrameIndex::default());
        for layer in &spec.layers {
            let paths = packer.layer_paths(layer, &store).unwrap();
            let cached = packer.cached_blob(&paths, layer.compression.unwrap()).unwrap().unwrap();
            index.add(&cached);
            let file = directory.join("blobs/sha256").join(layer.digest.hex());
            blobs.insert(layer.digest, fs::read(file).unwrap());
        }
        (blobs, index)
    }
}

/// Gives files and directories the modes that Nix gives them.
fn seal(path: &Path) {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    if kind.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| seal(&entry.unwrap().path()));
    }
    if !kind.is_symlink() {
        let mode = if kind.is_dir() || path.ends_with("bin/run") { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Returns a path's archive, written according to the definition of the format.
fn archive(path: &Path) -> Vec<u8> {
    fn word(out: &mut Vec<u8>, word: &[u8]) {
        out.extend((word.len() as u64).to_le_bytes());
        out.extend(word);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    fn node(out: &mut Vec<u8>, path: &Path) {
        let meta = fs::symlink_metadata(path).unwrap();
        ["(", "type"].iter().for_each(|text| word(out, text.as_bytes()));
        if meta.is_dir() {
            word(out, b"directory");
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                ["entry", "(", "name"].iter().for_each(|text| word(out, text.as_bytes()));
                word(out, name.as_encoded_bytes());
                word(out, b"node");
                node(out, &path.join(&name));
                word(out, b")");
            }
        } else if meta.is_symlink() {
            ["symlink", "target"].iter().for_each(|text| word(out, text.as_bytes()));
            word(out, fs::read_link(path).unwrap().as_os_str().as_encoded_bytes());
        } else {
            word(out, b"regular");
            if meta.permissions().mode() & 0o100 != 0 {
                ["executable", ""].iter().for_each(|text| word(out, text.as_bytes()));
            }
            word(out, b"contents");
            word(out, &fs::read(path).unwrap());
        }
        word(out, b")");
    }
    let mut out = Vec::new();
    word(&mut out, b"nix-archive-1");
    node(&mut out, path);
    out
}

/// The blobs of a registry.
type Files = BTreeMap<Digest, Vec<u8>>;

/// A change to the segments of an index and to the blobs.
type Change<'c> = &'c dyn Fn(&mut Value, &mut Files);

/// A change to a store path.
type Action<'a> = &'a dyn Fn();

/// A registry in memory.
struct Blobs {
    blobs: Files,
    index: FrameIndex,
    results: Mutex<Vec<Result<(), String>>>,
}

impl Blobs {
    fn new(blobs: Files, index: FrameIndex) -> Arc<Self> {
        Arc::new(Self { blobs, index, results: Mutex::default() })
    }

    fn results(&self) -> Vec<Result<(), String>> {
        std::mem::take(&mut *self.results.lock().unwrap())
    }
}

impl SegmentSource for Blobs {
    fn fetch(&self, wanted: &[WantedSegment], cache: &Cache) {
        for wanted in wanted {
            let Some(place) = wanted.place(&self.index) else { continue };
            let mut bytes = &self.blobs[&place.blob][place.offset as usize..place.end() as usize];
            let read: &mut dyn Read = &mut bytes;
            let result = wanted.receive(place, read, cache).map_err(|error| error.to_string());
            self.results.lock().unwrap().push(result);
        }
    }
}

#[test]
fn a_cached_blob_is_read_from_any_offset_into_a_used_buffer() {
    let world = World::new();
    let cache = world.cache("cache");
    let spec = world.build(&cache, "zstd:1", 1, Vec::new());
    let (blobs, _) = world.blobs(&cache, &spec);
    let (packer, layer) = (Packer::new(1).with_cache(Some(cache)), &spec.layers[0]);
    let paths = packer.layer_paths(layer, &world.store()).unwrap();
    let cached = packer.cached_blob(&paths, layer.compression.unwrap()).unwrap().unwrap();
    let whole = &blobs[&layer.digest];
    let size = whole.len();
    let (mut buffer, mut growing) = (vec![7; size + 1000], Vec::new());
    for at in [0, 1, 100, size / 3, size / 2, size - 2000, size - 20, size - 1] {
        for least in [1, 5000, size] {
            let read = cached.read(at as u64, least, &mut buffer).unwrap();
            assert!(read >= least.min(size - at), "{at}, {least}: {read}");
            assert_eq!(buffer[..read], whole[at..at + read], "{at}, {least}");
            let again = cached.read((size - read) as u64, read, &mut growing).unwrap();
            assert_eq!(growing[..again], whole[size - read..], "{at}, {least}");
        }
    }
    assert_eq!((cached.read(size as u64, 1, &mut buffer), buffer.len()), (Some(0), size + 1000));
}

#[test]
fn another_plan_takes_all_frames_and_has_the_same_digests() {
    for codec in Codec::all().filter(|codec| *codec != Codec::None).map(|codec| codec.to_string()) {
        let world = World::new();
        let first = world.cache("first");
        let spec = world.build(&first, &codec, 2, Vec::new());
        let (blobs, index) = world.blobs(&first, &spec);
        assert_eq!(index.len(), 2);
        let read = FrameIndex::read(std::str::from_utf8(&index.write()).unwrap(), "index").unwrap();
        assert_eq!(read, index);

        let other = world.build(&world.cache("other"), &codec, 1, Vec::new());
        let source = Blobs::new(blobs, read);
        // The store is gone but for its directory: everything comes from the registry.
        let moved = world.directory.path().join("moved");
        fs::rename(world.directory.path().join("store"), &moved).unwrap();
        fs::create_dir(world.directory.path().join("store")).unwrap();
        let fetched = world.build(&world.cache("second"), &codec, 1, vec![source.clone()]);
        assert_eq!(source.results(), [Ok(()), Ok(())], "{codec}");
        assert_eq!(fetched, other, "{codec}");
    }
}

#[test]
fn frames_that_this_machine_would_not_make_are_refused() {
    let world = World::new();
    let first = world.cache("first");
    let spec = world.build(&first, "zstd:1", 1, Vec::new());
    let (blobs, index) = world.blobs(&first, &spec);
    let json: Value = serde_json::from_slice(&index.write()).unwrap();
    let expected = world.build(&world.cache("other"), "zstd:1", 2, Vec::new());
    let keys: Vec<String> = json["segments"].as_object().unwrap().keys().cloned().collect();
    let by_frames = |count: usize| {
        keys.iter().find(|key| json["segments"][*key]["frames"].as_array().unwrap().len() == count).unwrap()
    };
    let (large, small) = (by_frames(3), by_frames(1));
    let mut cases: Vec<(&str, Value, Files, &str)> = Vec::new();
    let mut case = |name, message, change: Change<'_>| {
        let (mut json, mut blobs) = (json.clone(), blobs.clone());
        change(&mut json["segments"], &mut blobs);
        cases.push((name, json, blobs, message));
    };
    case("a damaged byte", "a frame has another hash than the index names", &|segments, blobs| {
        let at = segments[small]["offset"].as_u64().unwrap() as usize;
        blobs.values_mut().next().unwrap()[at + 20] ^= 1;
    });
    case("another path", "it has a foreign entry", &|segments, _| {
        segments[small] = segments[large].clone();
    });
    case("missing frames", "", &|segments, _| drop(segments[large]["frames"].as_array_mut().unwrap().pop()));
    case("frames of another size", "a frame has another hash than the index names", &|segments, _| {
        segments[large]["frames"][0][0] = json!(FRAME_BYTES - 1);
    });
    case("a wrong offset", "a frame has another hash than the index names", &|segments, _| {
        let at = segments[small]["offset"].as_u64().unwrap();
        segments[small]["offset"] = json!(at + 1);
    });
    for (name, json, blobs, message) in cases {
        let index = FrameIndex::read(&json.to_string(), "index").unwrap();
        let source = Blobs::new(blobs, index);
        let cache = world.cache(&format!("cache of {name}"));
        let built = world.build(&cache, "zstd:1", 2, vec![source.clone()]);
        // The packer has made the refused segment itself.
        assert_eq!(built, expected, "{name}");
        let results = source.results();
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert!(
            !errors.is_empty() && errors.iter().all(|error| error.contains(message)),
            "{name}: {results:?}"
        );
        assert!(cache.verify().unwrap().removed.is_empty(), "{name}");
    }
}

#[test]
fn other_content_headers_and_hashes_are_refused() {
    let world = World::new();
    let honest = world.build(&world.cache("honest"), "zstd:1", 1, Vec::new());
    let real =
        |name: &str| world.directory.path().join("store").join(A.rsplit('/').next().unwrap()).join(name);
    // A machine whose store path has other content, or other modes, claims to have this path's frames.
    let set =
        |name: &str, mode: u32| fs::set_permissions(real(name), fs::Permissions::from_mode(mode)).unwrap();
    let changes: [(&str, Action<'_>, Action<'_>); 3] = [
        (
            "its content has another hash than Nix records",
            &|| {
                set("share/empty", 0o644);
                fs::write(real("share/empty"), "evil").unwrap();
                set("share/empty", 0o444);
            },
            &|| {
                set("share/empty", 0o644);
                fs::write(real("share/empty"), "").unwrap();
                set("share/empty", 0o444);
            },
        ),
        ("it has a foreign entry", &|| set("share/empty", 0o4444), &|| set("share/empty", 0o444)),
        ("its content has another hash than Nix records", &|| set("share/empty", 0o555), &|| {
            set("share/empty", 0o444)
        }),
    ];
    for (at, (message, change, restore)) in changes.into_iter().enumerate() {
        change();
        let evil = world.cache(&format!("evil-{at}"));
        let spec = world.build(&evil, "zstd:1", 1, Vec::new());
        let (blobs, index) = world.blobs(&evil, &spec);
        restore();
        let source = Blobs::new(blobs, index);
        let built = world.build(&world.cache(&format!("victim-{at}")), "zstd:1", 1, vec![source.clone()]);
        assert_eq!(built, honest, "{message}");
        let results = source.results();
        assert!(
            results.iter().any(|result| result.as_ref().is_err_and(|why| why.contains(message))),
            "{results:?}"
        );
    }
}

#[test]
fn an_index_that_is_not_valid_is_an_error() {
    let digest = Digest::of(b"");
    for (text, message) in [
        (json!({"version": 2, "segments": {}}), "its version is 2, but this nixply supports only version 1"),
        (
            json!({"version": 1, "segments": {"k": {"blob": digest, "offset": 0, "frames": [[u32::MAX, 1, "x"]]}}}),
            "segment k has a frame that is too large",
        ),
        (
            json!({"version": 1, "segments": {"k": {"blob": "x", "offset": 0, "frames": []}}}),
            "segments.k.blob",
        ),
        (
            json!({"version": 1, "segments": {"k": {"blob": digest, "offset": 0, "frames": []}}}),
            "segment k is empty, or outside any blob",
        ),
        (
            json!({"version": 1, "segments": {"k": {"blob": digest, "offset": u64::MAX, "frames": [[1, 1, "x"]]}}}),
            "segment k is empty, or outside any blob",
        ),
    ] {
        let error = FrameIndex::read(&text.to_string(), "the index").unwrap_err().chain();
        assert!(error.starts_with("the index") && error.contains(message), "{error}");
    }
}
