//! The check of the store: what is read is what Nix knows, or nothing of it is kept.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use nixply_packer::Error;
use nixply_packer::cache::Cache;
use nixply_packer::closure::{Closure, PathInfo, Store};
use nixply_packer::digest::Digest;
use nixply_packer::image::layout;
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::pack::{Control, Packer};
use nixply_packer::request::ImageRequest;
use serde_json::json;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

/// The archive of a folder with one file in it, by the book.
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

/// A store of three paths with a cache beside it.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        for name in NAMES {
            fs::create_dir_all(world.file(name).parent().unwrap()).unwrap();
            fs::write(world.file(name), world.content(name)).unwrap();
        }
        world
    }

    fn store(&self) -> Store {
        Store { dir: "/nix/store".into(), real_dir: self.0.path().join("store") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().real_path(&path(name).as_str().into()).join("file")
    }

    fn content(&self, name: &str) -> Vec<u8> {
        name.repeat(5_000_001).into_bytes()
    }

    fn cache(&self) -> Cache {
        Cache::new(self.0.path().join("cache"))
    }

    fn packer(&self, check: bool) -> Packer {
        Packer::new(2).with_cache(Some(self.cache())).with_store_check(check)
    }

    fn build(&self, codec: &str, to_root: bool, check: bool) -> Result<ImageSpec, Error> {
        let infos = NAMES.map(|name| PathInfo {
            path: path(name).into(),
            references: Vec::new(),
            nar_hash: Digest::of(&archive(&self.content(name))).to_string(),
            nar_size: 5_000_001,
        });
        let deps = NAMES.map(path);
        let layer =
            if to_root { json!({"copyToRoot": [deps[1]]}) } else { json!({"deps": deps, "maxLayers": 2}) };
        let request = json!({"arch": "amd64", "compression": codec, "layers": [layer]});
        self.request(&request, &Closure::new(infos), check)
    }

    fn request(
        &self,
        request: &serde_json::Value,
        closure: &Closure,
        check: bool,
    ) -> Result<ImageSpec, Error> {
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let control = Control::new(&stop, &());
        Ok(request.build(closure, &self.store(), &self.packer(check), &control)?.spec)
    }

    fn layout(&self, spec: &ImageSpec, name: &str) -> Result<(), Error> {
        let (stop, dir) = (AtomicBool::new(false), self.0.path().join(name));
        let (packer, control) = (self.packer(true), Control::new(&stop, &()));
        layout::write(spec, &self.store(), &dir, "t", None, &packer, &control).map(drop)
    }

    fn damage(&self) {
        let mut content = self.content("b");
        content[4_999_999] ^= 1;
        fs::write(self.file("b"), content).unwrap();
    }

    fn repair(&self) {
        fs::write(self.file("b"), self.content("b")).unwrap();
    }
}

#[test]
fn nothing_is_kept_of_a_damaged_path() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        for to_root in [false, true] {
            let world = World::new();
            let truth = world.build(codec, to_root, false).unwrap();
            world.cache().gc(0).unwrap();
            assert_eq!(world.build(codec, to_root, true).unwrap(), truth, "{codec}: the bytes are the same");
            world.damage();
            assert_eq!(
                world.build(codec, to_root, true).unwrap(),
                truth,
                "{codec}: what is cached is not read"
            );
            world.cache().gc(0).unwrap();
            let error = world.build(codec, to_root, true).unwrap_err().to_string();
            let [expected, found] = [world.content("b"), fs::read(world.file("b")).unwrap()]
                .map(|content| Digest::of(&archive(&content)));
            let start = format!(
                "store path is damaged: the hash of its archive is {found}, but Nix knows it by {expected}; nothing of it was \
                 kept: repair it (nix-store --repair-path {}) and build again",
                path("b")
            );
            assert!(error.starts_with(&start), "{codec}: {error}");
            world.repair();
            // If anything of it were there, this would not look.
            assert_eq!(world.build(codec, to_root, false).unwrap(), truth, "{codec}");
        }
    }
}

/// The way out that the documentation names.
#[test]
fn without_the_check_an_emptied_cache_is_as_good_as_new() {
    let world = World::new();
    let truth = world.build("zstd:1", false, false).unwrap();
    world.cache().gc(0).unwrap();
    world.damage();
    let wrong = world.build("zstd:1", false, false).unwrap();
    assert_ne!(wrong, truth, "the store is trusted");
    world.repair();
    assert_eq!(world.build("zstd:1", false, true).unwrap(), wrong, "and so is what was made of it");
    world.cache().gc(0).unwrap();
    assert_eq!(world.build("zstd:1", false, false).unwrap(), truth);
}

/// A spec has no hashes of archives: the cache remembers them.
#[test]
fn a_layout_is_checked_where_hashes_are_known() {
    let world = World::new();
    let truth = world.build("zstd:1", false, false).unwrap();
    fs::remove_dir_all(world.cache().folder().join("segments")).unwrap();
    world.damage();
    let error = world.layout(&truth, "damaged").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::remove_dir_all(world.cache().folder()).unwrap();
    let error = world.layout(&truth, "unknown").unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "the spec's own digests tell, too: {error}");
    world.repair();
    world.layout(&truth, "repaired").unwrap();
}

#[test]
fn a_closure_without_hashes_cannot_be_checked() {
    let world = World::new();
    let info =
        PathInfo { path: path("a").into(), references: Vec::new(), nar_hash: String::new(), nar_size: 0 };
    let request = json!({"arch": "amd64", "layers": [{"deps": [path("a")]}]});
    let closure = Closure::new([info]);
    world.request(&request, &closure, false).unwrap();
    let error = world.request(&request, &closure, true).unwrap_err().to_string();
    assert!(error.starts_with(&format!("check of the store path {} is not valid", path("a"))), "{error}");
    assert!(error.contains("narHash"), "{error}");
}
