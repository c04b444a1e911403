//! nix2container's own unit tests: they expect the same layers, byte for byte. They use file paths that are not
//! store paths.

#[path = "../../tests/trees/mod.rs"]
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use nixply_documents::go_json;
use nixply_oci::{History, ImageConfig};
use nixply_planning::plan::Plan;
use nixply_planning::{PathOptions, Perm, PlannedPath, RewritePath, Store, StorePath};
use sha2::Sha256;

use self::trees::Tree;
use super::layout;
use super::spec::{ImageSpec, Layer};
use crate::compress::Codec;
use crate::control::Control;
use crate::error::Error;
use crate::layer_path::LayerPath;
use crate::pack::{Packer, Packing};
use crate::request::LayerPlan;

fn pack(plan: Plan, store: &Store, threads: usize, history: &History) -> Result<Vec<Layer>, Error> {
    let stop = AtomicBool::new(false);
    let control = Control::new(&stop, &());
    let paths = plan.iter().map(|layer| LayerPath::all(layer, store)).collect::<Result<Vec<_>, _>>()?;
    let packed = Packer::new(threads).pack(&paths, Codec::None, &(), &control)?;
    let layers = plan.into_iter().zip(packed).map(|(paths, packed)| {
        LayerPlan { paths, history: history.clone() }.into_layer(&packed, Codec::None, None)
    });
    Ok(layers.collect())
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(Sha256::digest(bytes))
}

/// Returns a store like the one of nix2container's unit tests, which run in its `nix` directory and use paths relative to
/// it.
fn upstream_store() -> (tempfile::TempDir, Store) {
    let temporary = tempfile::tempdir().unwrap();
    let data = temporary.path();
    let file = |text: &str| Tree::File { text: text.into(), mode: 0o644 };
    file("").write(&data.join("layer1/file1"));
    file("content file1").write(&data.join("tar-directory/file1"));
    Tree::Link { target: "file1".into() }.write(&data.join("tar-directory/symlink"));
    file("").write(&data.join("graph-directory/path1/path11/file111"));
    file("").write(&data.join("graph-directory/path2/file21"));
    for directory in
        ["layer1", "tar-directory", "graph-directory", "graph-directory/path1", "graph-directory/path2"]
    {
        trees::set_mode(&data.join(directory), 0o755);
    }
    trees::set_mode(&data.join("graph-directory/path1/path11"), 0o755);
    let store = Store { dir: "../data".into(), real_dir: data.into() };
    (temporary, store)
}

fn upstream(path: &str, perms: Vec<Perm>) -> Layer {
    let (_temporary, store) = upstream_store();
    let options = (!perms.is_empty()).then(|| PathOptions { perms, ..PathOptions::default() });
    let plan = vec![vec![PlannedPath { path: StorePath::unchecked(path), options }]];
    pack(plan, &store, 2, &History::default()).unwrap().remove(0)
}

/// TestTar.
#[test]
fn a_directory_has_nix2containers_digest() {
    let layer = upstream("../data/tar-directory", vec![]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:1ea63d00b937dc24c711265b80444cc9e7e63751fb7f349b160be61d31381983",
        "the layer of nix2container's TestTar"
    );
    assert_eq!(layer.size, 4096);
}

/// TestNewLayers, first half.
#[test]
fn a_file_has_nix2containers_digest() {
    let layer = upstream("../data/layer1/file1", vec![]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e",
        "the layer of nix2container's TestNewLayers"
    );
    assert_eq!((layer.diff_id.as_digest(), layer.size), (layer.digest, 3072));
    assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(go_json::compact(&layer.paths), br#"[{"path":"../data/layer1/file1"}]"#);
}

/// TestPerms.
#[test]
fn a_file_with_perms_has_nix2containers_digest() {
    let perm = Perm { regex: ".*file1".into(), mode: "0641".into(), ..Perm::default() };
    let layer = upstream("../data/layer1/file1", vec![perm]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:adf74a52f9e1bcd7dab77193455fa06743b979cf5955148010e5becedba4f72d",
        "the layer of nix2container's TestPerms"
    );
    assert_eq!(layer.size, 3072);
}

/// TestNewLayers, second half: the blob in a file has the layer's digest and is the tar stream itself.
#[test]
fn a_blob_without_compression_is_the_tar_stream() {
    let (temporary, store) = upstream_store();
    let plan = vec![vec![PlannedPath { path: StorePath::unchecked("../data/layer1/file1"), options: None }]];
    let layers = pack(plan, &store, 1, &History::default()).unwrap();
    let digest = layers[0].digest;
    let spec = ImageSpec {
        version: 1,
        config: ImageConfig::default(),
        layers,
        arch: "amd64".into(),
        created: None,
        annotations: BTreeMap::new(),
    };
    let out = temporary.path().join("layout");
    let stop = AtomicBool::new(false);
    layout::write(&spec, &out, "t", None, &Packing::new(&store, &Packer::new(1), &Control::new(&stop, &())))
        .unwrap();
    let blob = fs::read(out.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(
        sha256(&blob),
        "cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e",
        "the blob of nix2container's TestNewLayers"
    );
}

fn entries(paths: &[&str], store: &Store) -> Vec<(String, u32)> {
    let planned: Vec<_> =
        paths.iter().map(|path| PlannedPath { path: StorePath::unchecked(path), options: None }).collect();
    let layers = [LayerPath::all(&planned, store).unwrap()];
    let sink = trees::Memory::default();
    let stop = AtomicBool::new(false);
    Packer::new(1).pack(&layers, Codec::None, &sink, &Control::new(&stop, &())).unwrap();
    let blob = sink.blob(0);
    let mut archive = tar::Archive::new(&blob[..]);
    let read = |entry: tar::Entry<'_, _>| {
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), entry.header().mode().unwrap())
    };
    archive.entries().unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// TestGraph and TestWalkGraph: parents are added, siblings are sorted.
#[test]
fn parents_come_first_and_siblings_are_sorted() {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    for name in ["hash1", "hash2"] {
        Tree::File { text: name.into(), mode: 0o444 }.write(&temporary.path().join(name));
    }
    let expected = [
        ("/", 0o755),
        ("/nix", 0o755),
        ("/nix/store", 0o755),
        ("/nix/store/hash1", 0o444),
        ("/nix/store/hash2", 0o444),
    ];
    let found = entries(&["/nix/store/hash2", "/nix/store/hash1"], &store);
    assert_eq!(found, expected.map(|(name, mode)| (name.to_owned(), mode)));
}

/// TestWalkGraphOnDirectory.
#[test]
fn a_relative_directory_keeps_its_dots() {
    let (_temporary, store) = upstream_store();
    let names: Vec<_> =
        entries(&["../data/graph-directory"], &store).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "..",
            "../data",
            "../data/graph-directory",
            "../data/graph-directory/path1",
            "../data/graph-directory/path1/path11",
            "../data/graph-directory/path1/path11/file111",
            "../data/graph-directory/path2",
            "../data/graph-directory/path2/file21",
        ]
    );
}

/// TestAddFileToGraphOverride.
#[test]
fn other_perms_for_the_same_place_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    let planned = |name: &str, uid| {
        Tree::File { text: String::new(), mode: 0o444 }.write(&temporary.path().join(name).join("file1"));
        let path = format!("/nix/store/{name}");
        let options = PathOptions {
            rewrite: RewritePath::to_root(&path).rewrite,
            perms: vec![Perm { regex: "file1".into(), uid, ..Perm::default() }],
        };
        PlannedPath { path: StorePath::unchecked(&path), options: Some(options) }
    };
    let error = pack(vec![vec![planned("a", 1), planned("b", 2)]], &store, 1, &History::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the file '/file1' already exists in the tar with perms 0444 1:0"), "{error}");
}
