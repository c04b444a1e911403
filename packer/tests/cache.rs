//! The cache: what it has is not read again, and whatever happens to it, the bytes are the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nixply_packer::Error;
use nixply_packer::cache::Cache;
use nixply_packer::closure::{Closure, PathInfo, Store, StorePath};
use nixply_packer::compress::FRAME_BYTES;
use nixply_packer::digest::{DiffId, Digest};
use nixply_packer::image::Imported;
use nixply_packer::image::layout;
use nixply_packer::image::spec::{ImageSpec, Layer};
use nixply_packer::pack::{BlobSink, BlobWriter, Control, PackedLayer, Packer};
use nixply_packer::request::{BuiltImage, ImageRequest};
use serde_json::{Value, json};

const CODECS: [&str; 3] = ["none", "gzip", "zstd"];

/// A store with a cache beside it.
struct World {
    temporary: tempfile::TempDir,
    store: Store,
    paths: Vec<(String, String)>,
}

impl World {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().join("store") };
        Self { temporary, store, paths: Vec::new() }
    }

    /// Adds a store path with one file of `length` bytes of a kind.
    fn add(&mut self, name: &str, length: usize, kind: u8) -> String {
        let path = format!("/nix/store/{}-{name}", "0123456789abcdfghijklmnpqrsvwxyz");
        let real = self.store.real_path(&StorePath::from(path.as_str()));
        let _ = fs::remove_dir_all(&real);
        fs::create_dir_all(&real).unwrap();
        // Compressible, not periodic over a frame.
        let bytes: Vec<u8> = (0..length).map(|at| (at >> 7) as u8 ^ (at % 251) as u8 ^ kind).collect();
        fs::write(real.join("file"), bytes).unwrap();
        self.paths.retain(|(there, _)| *there != path);
        self.paths.push((path.clone(), format!("sha256-{name}-{length}-{kind}")));
        path
    }

    fn folder(&self) -> PathBuf {
        self.temporary.path().join("cache")
    }

    fn cache(&self) -> Cache {
        Cache::new(self.folder())
    }

    fn forget_the_store(&self) {
        fs::remove_dir_all(&self.store.real_dir).unwrap();
        fs::create_dir(&self.store.real_dir).unwrap();
    }

    fn build(&self, request: &Value, cache: Option<Cache>) -> Result<BuiltImage, Error> {
        let info = |(path, nar_hash): &(String, String)| PathInfo {
            path: path.as_str().into(),
            references: Vec::new(),
            nar_hash: nar_hash.clone(),
            nar_size: 1,
        };
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let packer = Packer::new(2).with_cache(cache);
        request.build(
            &Closure::new(self.paths.iter().map(info)),
            &self.store,
            &packer,
            &Control::new(&stop, &()),
        )
    }

    fn request(&self, codec: &str, layers: usize) -> Value {
        let deps: Vec<&String> = self.paths.iter().map(|(path, _)| path).collect();
        json!({"arch": "amd64", "compression": codec, "layers": [{"deps": deps, "maxLayers": layers}]})
    }

    fn layout(&self, image: &BuiltImage, name: &str, cache: Option<Cache>) -> Result<Vec<Vec<u8>>, Error> {
        let (stop, dir) = (AtomicBool::new(false), self.temporary.path().join(name));
        let packer = Packer::new(2).with_cache(cache);
        layout::write(&image.spec, &self.store, &dir, "t", None, &packer, &Control::new(&stop, &()))?;
        let blob = |layer: &nixply_packer::image::spec::Layer| {
            fs::read(dir.join("blobs/sha256").join(layer.digest.hex())).unwrap()
        };
        Ok(image.spec.layers.iter().map(blob).collect())
    }

    fn entries(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder(), &mut found);
        found.sort();
        found
    }
}

fn small() -> World {
    let mut world = World::new();
    world.add("a", 2 * FRAME_BYTES + 12_345, 1);
    world.add("b", 511, 2);
    world.add("c", FRAME_BYTES - 512, 3);
    world
}

/// A build in which nothing changed reads no store path: here there is none left to read.
#[test]
fn a_cached_image_is_built_from_nothing() {
    for codec in CODECS {
        let world = small();
        let to_root = |codec: &str| {
            let mut request = world.request(codec, 2);
            request["copyToRoot"] = json!([world.paths[1].0]);
            request
        };
        let fresh = world.build(&to_root(codec), None).unwrap().json;
        assert_eq!(world.build(&to_root(codec), Some(world.cache())).unwrap().json, fresh);
        world.forget_the_store();
        assert_eq!(world.build(&to_root(codec), Some(world.cache())).unwrap().json, fresh);
        let other = if codec == "zstd" { "gzip" } else { "zstd" };
        assert!(world.build(&to_root(other), Some(world.cache())).is_err(), "another codec is another layer");
        assert!(world.build(&to_root(codec), None).is_err());
    }
}

/// Frames are a path's own: a new plan over known paths compresses nothing, and reads nothing.
#[test]
fn a_new_plan_over_known_paths_reads_no_store_path() {
    for codec in ["gzip", "zstd:1"] {
        let world = small();
        let fresh = world.build(&world.request(codec, 1), None).unwrap().json;
        world.build(&world.request(codec, 3), Some(world.cache())).unwrap();
        world.forget_the_store();
        assert_eq!(
            world.build(&world.request(codec, 1), Some(world.cache())).unwrap().json,
            fresh,
            "{codec}"
        );
    }
}

/// The spec knows no archive hashes; the cache remembers them.
#[test]
fn a_layout_is_written_out_of_the_cache() {
    for codec in ["gzip", "zstd"] {
        let world = small();
        let image = world.build(&world.request(codec, 2), None).unwrap();
        let fresh = world.layout(&image, "fresh", None).unwrap();
        assert_eq!(world.build(&world.request(codec, 2), Some(world.cache())).unwrap().json, image.json);
        world.forget_the_store();
        assert_eq!(world.layout(&image, "cached", Some(world.cache())).unwrap(), fresh);
        assert!(world.layout(&image, "without", None).is_err());
    }
}

/// A layer in which the last path changed is hashed from there on: the paths before it are gone here.
#[test]
fn a_changed_layer_is_hashed_from_the_change_on() {
    for codec in CODECS {
        let mut world = World::new();
        for name in ["a", "b", "c", "d"] {
            world.add(name, 20 << 20, name.as_bytes()[0]);
        }
        world.build(&world.request(codec, 1), Some(world.cache())).unwrap();
        world.add("d", 1000, 0);
        let fresh = world.build(&world.request(codec, 1), None).unwrap().json;
        for name in ["a", "b"] {
            let path = world.paths.iter().find(|(path, _)| path.ends_with(name)).unwrap();
            fs::remove_dir_all(world.store.real_path(&path.0.as_str().into())).unwrap();
        }
        // With a codec, segments would be enough: without them, the states have to be.
        fs::remove_dir_all(world.folder().join("segments")).ok();
        assert_eq!(
            world.build(&world.request(codec, 1), Some(world.cache())).unwrap().json,
            fresh,
            "{codec}"
        );
    }
}

/// Any entry may be missing, torn or altered: what is built is the same.
#[test]
fn whatever_happens_to_the_cache_the_bytes_are_the_same() {
    for codec in CODECS {
        let mut world = World::new();
        for name in ["a", "b", "c"] {
            world.add(name, 17 << 20, name.as_bytes()[0]);
        }
        let images = [1, 3].map(|layers| world.request(codec, layers));
        let fresh = images.each_ref().map(|request| world.build(request, None).unwrap());
        let blobs = world.layout(&fresh[0], "fresh", None).unwrap();
        let fill = || {
            let _ = fs::remove_dir_all(world.folder());
            images.iter().for_each(|request| drop(world.build(request, Some(world.cache())).unwrap()));
        };
        fill();
        let count = world.entries().len();
        assert!(count > 5, "{count}");
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 5] = [
            ("deleted", |path| fs::remove_file(path).unwrap()),
            ("halved", |path| {
                let length = fs::metadata(path).unwrap().len();
                fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
            }),
            ("emptied", |path| fs::write(path, "").unwrap()),
            ("altered", |path| {
                let mut bytes = fs::read(path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            ("a folder", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ];
        for (name, harm) in harms {
            for every in [1, 2] {
                fill();
                world.entries().iter().step_by(every).for_each(|path| harm(path));
                for (request, fresh) in images.iter().zip(&fresh) {
                    let built = world.build(request, Some(world.cache())).unwrap();
                    assert_eq!(built.json, fresh.json, "{codec}, every {every}th entry {name}");
                }
            }
            let out = format!("{name} {codec}");
            world.entries().iter().filter(|path| path.is_file()).for_each(|path| harm(path));
            assert_eq!(world.layout(&fresh[0], &out, Some(world.cache())).unwrap(), blobs, "{out}");
        }
    }
}

/// A damaged store path is told by name, whatever the cache knows of its layer, and its frames are not kept.
#[test]
fn a_damaged_path_is_named_and_its_frames_are_not_kept() {
    for (in_spec, written) in [("none", "zstd"), ("gzip", "gzip")] {
        for known in [false, true] {
            let world = small();
            let image = world.build(&world.request(in_spec, 1), Some(world.cache())).unwrap();
            let write = |name: &str| {
                let (stop, dir) = (AtomicBool::new(false), world.temporary.path().join(name));
                let packer = Packer::new(2).with_cache(Some(world.cache()));
                let (codec, control) = (Some(written.parse().unwrap()), Control::new(&stop, &()));
                layout::write(&image.spec, &world.store, &dir, "t", codec, &packer, &control)
            };
            let before = known.then(|| write("before").unwrap().layers);
            fs::remove_dir_all(world.folder().join("segments")).ok();
            let (path, _) = &world.paths[1];
            let file = world.store.real_path(&path.as_str().into()).join("file");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, vec![7; bytes.len()]).unwrap();
            let error = write("damaged").unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("--verify-path"), "{in_spec} {known}: {error}");
            fs::write(&file, &bytes).unwrap();
            let after = write("mended").unwrap().layers;
            assert!(before.is_none_or(|before| before == after), "{in_spec} {known}");
        }
    }
}

/// Two processes may fill the same cache at once.
#[test]
fn writers_do_not_disturb_each_other() {
    let world = small();
    let fresh = world.build(&world.request("zstd", 2), None).unwrap().json;
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json)
            })
            .collect();
        builds.into_iter().for_each(|build| assert_eq!(build.join().unwrap(), fresh));
    });
    assert!(world.cache().verify().unwrap().removed.is_empty());
    assert!(
        world.entries().iter().all(|path| !path.to_str().unwrap().contains(".nixply-")),
        "nothing is left over"
    );
}

/// A machine that has nothing but an image's spec knows the layers of the next one, as far as they are the same.
#[test]
fn layers_of_a_spec_from_elsewhere_are_known_again() {
    for codec in ["gzip", "zstd"] {
        let mut world = small();
        let former = world.build(&world.request(codec, 3), None).unwrap().spec;
        let (name, _) = world.paths[0].clone();
        let short = name.rsplit_once('-').unwrap().1;
        world.add(short, 54_321, 9);
        let expected = world.build(&world.request(codec, 3), None).unwrap();
        let same = |layer: &&Layer| former.layers.contains(layer);
        let unchanged: Vec<_> =
            expected.spec.layers.iter().filter(same).flat_map(|layer| &layer.paths).collect();
        assert_eq!(unchanged.len(), 2, "one path of three has changed");

        let written = String::from_utf8(former.write()).unwrap();
        let imported = world.cache().import(&ImageSpec::read(&written, "former.json").unwrap()).unwrap();
        assert_eq!(imported, Imported { known: 3, without_key: 0 });
        // They cannot be packed any more, and need not be.
        for path in unchanged {
            fs::remove_dir_all(world.store.real_path(&path.path)).unwrap();
        }
        assert_eq!(world.build(&world.request(codec, 3), Some(world.cache())).unwrap().json, expected.json);
    }
    let world = small();
    let plain = world.build(&world.request("none", 3), None).unwrap().spec;
    assert_eq!(world.cache().import(&plain).unwrap(), Imported { known: 0, without_key: 3 });
    let text =
        r#"{"version":1,"layers":[{"digest":"DIGEST","diff_ids":"DIGEST","mediatype":"","key":"0x"}]}"#;
    let text = text.replace("DIGEST", &plain.layers[0].digest.to_string());
    let error = ImageSpec::read(&text, "former.json").unwrap_err().to_string();
    assert!(
        error.contains("former.json")
            && error.contains("must be a layer's key, 64 hexadecimal digits, not \"0x\""),
        "{error}"
    );
    fs::write(world.folder(), "in the way").unwrap();
    let spec = world.build(&world.request("zstd", 3), None).unwrap().spec;
    let error = world.cache().import(&spec).unwrap_err().to_string();
    assert!(error.starts_with("cannot create folder: "), "{error}");
}

/// What one user has packed, others may read.
#[test]
fn a_shared_cache_is_of_use_and_stays_as_it_is() {
    let world = small();
    let fresh = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json;
    let before = world.entries();
    world.forget_the_store();
    let own = Cache::new(world.temporary.path().join("own")).with_shared(vec![world.folder()]);
    assert_eq!(world.build(&world.request("zstd", 2), Some(own.clone())).unwrap().json, fresh);
    world.build(&world.request("zstd", 1), Some(own.clone())).unwrap();
    assert_eq!(world.entries(), before);
    assert_ne!(own.stat().unwrap().iter().map(|stat| stat.entries).sum::<u64>(), 0);
}

/// Whatever is wrong with it, and however old it is.
#[test]
fn a_shared_cache_is_not_written_even_where_it_could_be() {
    let world = small();
    let image = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let mut before = Vec::new();
    for path in world.entries() {
        if path.to_str().unwrap().contains("/segments/") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[9] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        before.push((fs::read(&path).unwrap(), path));
    }
    let own = Cache::new(world.temporary.path().join("own")).with_shared(vec![world.folder()]);
    assert_eq!(world.build(&world.request("zstd", 2), Some(own.clone())).unwrap().json, image.json);
    world.layout(&image, "layout", Some(own)).unwrap();
    for (bytes, path) in before {
        assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), old, "{}", path.display());
    }
}

/// A layer that is known, but not what is in it: from a spec, or after the entry that tells was evicted. The first who needs its
/// bytes fills the cache, and the next ones find them there.
#[test]
fn bytes_of_a_known_layer_are_cached() {
    for lost in ["everything but the spec", "contents"] {
        let world = small();
        let image = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap();
        match lost {
            "contents" => fs::remove_dir_all(world.folder().join("contents")).unwrap(),
            _ => {
                fs::remove_dir_all(world.folder()).unwrap();
                assert_eq!(world.cache().import(&image.spec).unwrap().known, 2);
            }
        }
        assert_eq!(world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json, image.json);
        let first = world.layout(&image, "first", Some(world.cache())).unwrap();
        world.forget_the_store();
        assert_eq!(world.layout(&image, "second", Some(world.cache())).unwrap(), first, "{lost}");
    }
}

/// A blob that nobody could keep says nothing against what is cached.
#[test]
fn a_full_disk_elsewhere_costs_no_entry() {
    struct Full;
    impl BlobSink for Full {
        fn open(&self, _: usize) -> Result<Option<Box<dyn BlobWriter>>, Error> {
            Ok(Some(Box::new(Self)))
        }
    }
    impl BlobWriter for Full {
        fn write(&mut self, _: &[u8]) -> Result<(), Error> {
            Ok(())
        }
        fn finish(self: Box<Self>, _: &PackedLayer) -> Result<(), Error> {
            Err(Error::DiskFull { path: "blob".into(), source: std::io::ErrorKind::StorageFull.into() })
        }
    }
    let world = small();
    let image = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap();
    let before = world.entries();
    let (packer, stop) = (Packer::new(2).with_cache(Some(world.cache())), AtomicBool::new(false));
    let layers: Vec<_> =
        image.spec.layers.iter().map(|layer| packer.layer_paths(layer, &world.store).unwrap()).collect();
    let codec = "zstd".parse().unwrap();
    let error = packer.pack(&layers, codec, &Full, &Control::new(&stop, &())).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(world.entries(), before);
}

/// A spec whose layers are changed.
fn changed(image: &BuiltImage, change: impl Fn(usize, &mut Layer)) -> ImageSpec {
    let mut spec = image.spec.clone();
    spec.layers.iter_mut().enumerate().for_each(|(at, layer)| change(at, layer));
    spec
}

/// What a spec says does not replace what is known, and is forgotten, all of it, once some of it turns out to be wrong.
#[test]
fn a_wrong_spec_is_believed_until_bytes_are_made_and_then_forgotten() {
    let world = small();
    let truth = world.build(&world.request("zstd", 3), Some(world.cache())).unwrap();
    let build = || world.build(&world.request("zstd", 3), Some(world.cache())).unwrap();
    type Lie = fn(usize, &mut Layer);
    let lies: [(&str, Lie); 5] = [
        ("a digest", |at, layer| {
            if at == 1 {
                layer.digest = Digest::of(b"no layer");
            }
        }),
        ("all digests", |at, layer| layer.digest = Digest::of(&[at as u8])),
        ("all diff_ids", |at, layer| layer.diff_id = DiffId::of(&[at as u8])),
        ("all sizes", |_, layer| layer.size += 1),
        ("everything", |at, layer| {
            (layer.digest, layer.diff_id, layer.size) = (Digest::of(&[at as u8]), DiffId::of(&[at as u8]), 7);
        }),
    ];
    for (what, lie) in lies {
        let lie = changed(&truth, lie);
        world.cache().import(&lie).unwrap();
        assert_eq!(build().json, truth.json, "{what}: what is known stays");
        for first in ["build", "layout"] {
            let name = format!("{what}, {first}");
            fs::remove_dir_all(world.folder()).unwrap();
            world.cache().import(&lie).unwrap();
            let mut built = BuiltImage { spec: lie.clone(), ..truth.clone() };
            if first == "build" {
                built = build();
                assert_eq!(built.spec, lie, "{name}: it is believed");
            }
            let error = world.layout(&built, &name, Some(world.cache())).unwrap_err().to_string();
            let words = match first {
                "build" => "`nixply cache import` learnt it from was wrong",
                _ => "its image spec records",
            };
            assert!(error.contains(words), "{name}: {error}");
            let again = build();
            assert_eq!(again.json, truth.json, "{name}: one failure is enough");
            world.layout(&again, &format!("{name}, again"), Some(world.cache())).unwrap();
        }
    }
    let without = changed(&truth, |_, layer| layer.size = 0);
    assert_eq!(world.cache().import(&without).unwrap(), Imported { known: 0, without_key: 3 });
}

/// What a spec says is looked at once, and a fresh machine that nobody asks for bytes does not look.
#[test]
fn a_right_spec_is_proven_when_bytes_are_made() {
    let world = small();
    let truth = world.build(&world.request("zstd", 2), None).unwrap();
    world.cache().import(&truth.spec).unwrap();
    let proven = || {
        let layers = world.entries().into_iter().filter(|path| path.to_str().unwrap().contains("/layers/"));
        layers.filter(|path| fs::read_to_string(path).unwrap().contains(r#""proven":true"#)).count()
    };
    assert_eq!(world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json, truth.json);
    assert_eq!(proven(), 0);
    world.layout(&truth, "first", Some(world.cache())).unwrap();
    assert_eq!(proven(), 2);
    world.cache().import(&truth.spec).unwrap();
    assert_eq!(proven(), 2);
}

#[test]
fn a_spec_that_contradicts_itself_is_not_imported() {
    let world = small();
    let truth = world.build(&world.request("gzip", 3), None).unwrap();
    let [first, second] = [0, 1].map(|at| truth.spec.layers[at].clone());
    let refused = |change: &dyn Fn(&mut Layer)| {
        let lie = changed(&truth, |at, layer| {
            if at == 1 {
                change(layer);
            }
        });
        let error = world.cache().import(&lie).unwrap_err().to_string();
        assert!(error.contains("layers 1 and 2 have one "), "{error}");
        assert!(world.entries().is_empty(), "nothing of it is imported");
    };
    refused(&|layer| layer.digest = first.digest);
    refused(&|layer| layer.key = first.key);
    refused(&|layer| *layer = Layer { size: 7, ..first.clone() });
    refused(&|layer| *layer = Layer { diff_id: second.diff_id, ..first.clone() });
    refused(&|layer| *layer = Layer { digest: second.digest, ..first.clone() });
    let twice = changed(&truth, |at, layer| {
        if at == 1 {
            *layer = first.clone();
        }
    });
    assert_eq!(world.cache().import(&twice).unwrap().known, 3, "an image may have a layer twice");
}

/// Layers of the same paths in another order are the same: whose order it was does not matter.
#[test]
fn contents_are_known_by_path() {
    let world = small();
    let image = world.build(&world.request("zstd", 1), Some(world.cache())).unwrap();
    let mut turned = image.clone();
    turned.spec.layers[0].paths.reverse();
    world.forget_the_store();
    world.layout(&turned, "turned", Some(world.cache())).unwrap();
}

/// What cannot be mended by packing again is told with the layer's paths.
#[test]
fn a_blob_that_is_not_the_specs_is_told_with_its_paths() {
    let world = small();
    let truth = world.build(&world.request("gzip", 3), None).unwrap();
    let lies: [fn(usize, &mut Layer); 2] =
        [|_, layer| layer.digest = Digest::of(b"another"), |_, layer| layer.size += 1];
    for (at, lie) in lies.into_iter().enumerate() {
        let wrong = BuiltImage { spec: changed(&truth, lie), ..truth.clone() };
        let error = world.layout(&wrong, &format!("wrong {at}"), None).unwrap_err().to_string();
        assert!(
            error.starts_with("layer 1 has another blob than its image spec records: expected"),
            "{error}"
        );
        let path = &truth.spec.layers[0].paths[0].path;
        assert!(error.ends_with(&format!("build the image again: {path}")), "{error}");
    }
}
