//! A store of a few paths, and a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nixply_packer::image::layout;
use nixply_packer::request::BuiltImage;
use nixply_packer::{Cache, Codec, Control, Error, FRAME_BYTES, ImageRequest, Packer, Packing};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::{Value, json};

/// Returns the names of all codecs.
pub(crate) fn codecs() -> impl Iterator<Item = &'static str> {
    Codec::all().map(Codec::name)
}

/// Returns the names of the codecs that compress. Uncompressed segments are not cached.
pub(crate) fn compressing_codecs() -> impl Iterator<Item = &'static str> {
    Codec::all().filter(|codec| *codec != Codec::None).map(Codec::name)
}

/// A store with a cache next to it.
pub(crate) struct World {
    pub(crate) temporary: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) paths: Vec<(String, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().join("store") };
        Self { temporary, store, paths: Vec::new() }
    }

    /// Adds a store path with one file of `length` bytes of a kind.
    pub(crate) fn add(&mut self, name: &str, length: usize, kind: u8) -> String {
        let path = format!("/nix/store/{}-{name}", "0123456789abcdfghijklmnpqrsvwxyz");
        let real = self.store.real_file(&path);
        let _ = fs::remove_dir_all(&real);
        fs::create_dir_all(&real).unwrap();
        // Compressible, but not periodic across a frame.
        let bytes: Vec<u8> = (0..length).map(|at| (at >> 7) as u8 ^ (at % 251) as u8 ^ kind).collect();
        fs::write(real.join("file"), bytes).unwrap();
        self.paths.retain(|(there, _)| *there != path);
        self.paths.push((path.clone(), format!("sha256-{name}-{length}-{kind}")));
        path
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.temporary.path().join("cache")
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.directory())
    }

    pub(crate) fn forget_the_store(&self) {
        fs::remove_dir_all(&self.store.real_dir).unwrap();
        fs::create_dir(&self.store.real_dir).unwrap();
    }

    pub(crate) fn build(&self, request: &Value, cache: Option<Cache>) -> Result<BuiltImage, Error> {
        let info = |(path, nar_hash): &(String, String)| PathInfo {
            path: path.parse().unwrap(),
            references: Vec::new(),
            nar_hash: nar_hash.clone(),
            nar_size: 1,
        };
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let packer = Packer::new(2).with_cache(cache);
        request.build(
            &Closure::new(self.paths.iter().map(info)),
            &Packing::new(&self.store, &packer, &Control::new(&stop, &())),
        )
    }

    pub(crate) fn request(&self, codec: &str, layers: usize) -> Value {
        let deps: Vec<&String> = self.paths.iter().map(|(path, _)| path).collect();
        json!({"arch": "amd64", "compression": codec, "layers": [{"deps": deps, "maxLayers": layers}]})
    }

    pub(crate) fn layout(
        &self,
        image: &BuiltImage,
        name: &str,
        cache: Option<Cache>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let (stop, dir) = (AtomicBool::new(false), self.temporary.path().join(name));
        let packer = Packer::new(2).with_cache(cache);
        layout::write(
            &image.spec,
            &dir,
            "t",
            None,
            &Packing::new(&self.store, &packer, &Control::new(&stop, &())),
        )?;
        let blob = |layer: &nixply_packer::Layer| {
            fs::read(dir.join("blobs/sha256").join(layer.digest.hex())).unwrap()
        };
        Ok(image.spec.layers.iter().map(blob).collect())
    }

    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.directory(), &mut found);
        found.sort();
        found
    }
}

pub(crate) fn small() -> World {
    let mut world = World::new();
    world.add("a", 2 * FRAME_BYTES + 12_345, 1);
    world.add("b", 511, 2);
    world.add("c", FRAME_BYTES - 512, 3);
    world
}
