//! The cache: content in it is not read from the store again, and its state never changes the bytes of an image.

mod imports;
#[path = "../trees/mod.rs"]
mod trees;
mod world;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nixply_files::Error as FileError;
use nixply_packer::image::layout;
use nixply_packer::{BlobSink, BlobWriter, Cache, Control, Error, PackedLayer, Packer, Packing};
use serde_json::json;

use self::world::{World, codecs, compressing_codecs, small};

/// A build without changes reads no store path: this one runs after all of them are deleted.
#[test]
fn a_cached_image_is_built_without_the_store() {
    for codec in codecs() {
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
        assert!(
            world.build(&to_root(other), Some(world.cache())).is_err(),
            "the cache has no layer in another codec"
        );
        assert!(world.build(&to_root(codec), None).is_err());
    }
}

/// A frame belongs to one path: a new plan of known paths reads and compresses nothing.
#[test]
fn a_new_plan_of_known_paths_reads_no_store_path() {
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

/// The spec has no archive hashes, but the cache does.
#[test]
fn a_layout_is_written_from_the_cache() {
    for codec in compressing_codecs() {
        let world = small();
        let image = world.build(&world.request(codec, 2), None).unwrap();
        let fresh = world.layout(&image, "fresh", None).unwrap();
        assert_eq!(world.build(&world.request(codec, 2), Some(world.cache())).unwrap().json, image.json);
        world.forget_the_store();
        assert_eq!(world.layout(&image, "cached", Some(world.cache())).unwrap(), fresh);
        assert!(world.layout(&image, "without", None).is_err());
    }
}

/// If the last path of a layer changed, hashing starts there. The paths before it are deleted in this test.
#[test]
fn a_changed_layer_is_hashed_from_the_first_change() {
    for codec in codecs() {
        let mut world = World::new();
        for name in ["a", "b", "c", "d"] {
            world.add(name, 20 << 20, name.as_bytes()[0]);
        }
        world.build(&world.request(codec, 1), Some(world.cache())).unwrap();
        world.add("d", 1000, 0);
        let fresh = world.build(&world.request(codec, 1), None).unwrap().json;
        for name in ["a", "b"] {
            let path = world.paths.iter().find(|(path, _)| path.ends_with(name)).unwrap();
            fs::remove_dir_all(world.store.real_file(&path.0)).unwrap();
        }
        // With a codec, segments would be enough. Remove them, so that the build needs the states.
        fs::remove_dir_all(world.directory().join("segments")).ok();
        assert_eq!(
            world.build(&world.request(codec, 1), Some(world.cache())).unwrap().json,
            fresh,
            "{codec}"
        );
    }
}

/// Any entry may be missing, incomplete or altered: the image stays the same.
#[test]
fn bytes_do_not_depend_on_the_state_of_the_cache() {
    for codec in codecs() {
        let mut world = World::new();
        for name in ["a", "b", "c"] {
            world.add(name, 17 << 20, name.as_bytes()[0]);
        }
        let images = [1, 3].map(|layers| world.request(codec, layers));
        let fresh = images.each_ref().map(|request| world.build(request, None).unwrap());
        let blobs = world.layout(&fresh[0], "fresh", None).unwrap();
        let fill = || {
            let _ = fs::remove_dir_all(world.directory());
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
            ("a directory", |path| {
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

/// The error names a damaged store path, whether or not the cache knows its layer, and its frames are not kept.
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
                layout::write(&image.spec, &dir, "t", codec, &Packing::new(&world.store, &packer, &control))
            };
            let before = known.then(|| write("before").unwrap().layers);
            fs::remove_dir_all(world.directory().join("segments")).ok();
            let (path, _) = &world.paths[1];
            let file = world.store.real_file(path).join("file");
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
        "no temporary file is left"
    );
}

/// Other users may read a user's cache.
#[test]
fn a_shared_cache_is_used_but_not_changed() {
    let world = small();
    let fresh = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json;
    let before = world.entries();
    world.forget_the_store();
    let own = Cache::new(world.temporary.path().join("own")).with_shared(vec![world.directory()]);
    assert_eq!(world.build(&world.request("zstd", 2), Some(own.clone())).unwrap().json, fresh);
    world.build(&world.request("zstd", 1), Some(own.clone())).unwrap();
    assert_eq!(world.entries(), before);
    assert_ne!(own.stat().unwrap().iter().map(|stat| stat.entries).sum::<u64>(), 0);
}

/// Even damaged and old entries of a shared cache are not written.
#[test]
fn a_writable_shared_cache_is_not_written_either() {
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
    let own = Cache::new(world.temporary.path().join("own")).with_shared(vec![world.directory()]);
    assert_eq!(world.build(&world.request("zstd", 2), Some(own.clone())).unwrap().json, image.json);
    world.layout(&image, "layout", Some(own)).unwrap();
    for (bytes, path) in before {
        assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), old, "{}", path.display());
    }
}

/// A layer may be known without its content: from a spec, or after the entry that lists its segments was evicted. The first
/// build that needs its bytes adds them to the cache, and later builds find them.
#[test]
fn bytes_of_a_known_layer_are_cached() {
    for lost in ["everything but the spec", "contents"] {
        let world = small();
        let image = world.build(&world.request("zstd", 2), Some(world.cache())).unwrap();
        match lost {
            "contents" => fs::remove_dir_all(world.directory().join("contents")).unwrap(),
            _ => {
                fs::remove_dir_all(world.directory()).unwrap();
                assert_eq!(world.cache().import(&image.spec).unwrap().known, 2);
            }
        }
        assert_eq!(world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json, image.json);
        let first = world.layout(&image, "first", Some(world.cache())).unwrap();
        world.forget_the_store();
        assert_eq!(world.layout(&image, "second", Some(world.cache())).unwrap(), first, "{lost}");
    }
}

/// If a blob cannot be written elsewhere, the cached entries are still valid.
#[test]
fn a_full_disk_elsewhere_removes_no_entry() {
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
            Err(FileError::io("write", "blob", std::io::ErrorKind::StorageFull).into())
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
    assert!(matches!(error, Error::File(FileError::DiskFull { .. })), "{error}");
    assert_eq!(world.entries(), before);
}

/// Layers of the same paths in another order have the same contents in the cache.
#[test]
fn contents_are_found_in_any_order_of_paths() {
    let world = small();
    let image = world.build(&world.request("zstd", 1), Some(world.cache())).unwrap();
    let mut turned = image.clone();
    turned.spec.layers[0].paths.reverse();
    world.forget_the_store();
    world.layout(&turned, "turned", Some(world.cache())).unwrap();
}
