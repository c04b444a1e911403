//! Byte for byte what nix2container answers (G1 to G8, G17 and every vector in `golden/`), at 1, 2 and 8 threads (G18).

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nixply_packer::Error;
use nixply_packer::closure::{Closure, Store, StorePath};
use nixply_packer::compress::Codec;
use nixply_packer::image::config::ImageConfig;
use nixply_packer::image::oci::{self, Descriptor};
use nixply_packer::image::spec::{History, ImageSpec, Layer, ZERO_TIME, read_layers, write_layers};
use nixply_packer::image::{go_json, layout};
use nixply_packer::pack::{Control, LayerPath, Packer};
use nixply_packer::plan::{self, Options, PlannedPath, Strategy};
use nixply_packer::request::LayerPlan;
use nixply_packer::rules::{PathOptions, Perm, PermPath, RewritePath};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::trees::Tree;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    paths: serde_json::Map<String, Value>,
    layers: Vec<Run>,
    config: Option<Value>,
    #[serde(default)]
    image_args: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    graph: Value,
    #[serde(default)]
    max_layers: usize,
    #[serde(default)]
    rewrites: Vec<RewritePath>,
    #[serde(default)]
    perms: Vec<PermPath>,
    #[serde(default)]
    history: History,
    #[serde(default)]
    parents: bool,
}

fn pack(plan: plan::Plan, store: &Store, threads: usize, history: &History) -> Result<Vec<Layer>, Error> {
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
    hex::encode(Sha256::digest(bytes))
}

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |file: String| trees::unescape(&fs::read_to_string(folder.join(file)).unwrap());
    let vector: Vector = serde_json::from_str(&read(format!("{name}.json"))).unwrap();
    let expected: Value = serde_json::from_str(&read(format!("{name}.expected.json"))).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    for (path, tree) in &vector.paths {
        trees::make(&store.real_path(&path.as_str().into()), tree);
    }
    // 8 GiB take their time.
    let counts: &[usize] = if name == "big" { &[2] } else { &[1, 2, 8] };
    for &threads in counts {
        let mut made: Vec<Vec<Layer>> = Vec::new();
        for (at, run) in vector.layers.iter().enumerate() {
            let closure = Closure::from_value(run.graph.clone()).unwrap();
            let parents =
                made.iter().flatten().flat_map(|layer| &layer.paths).filter(|_| run.parents).collect();
            let options = Options {
                strategy: Strategy::Popularity,
                max_layers: run.max_layers,
                rewrites: &run.rewrites,
                perms: &run.perms,
                parents,
                ..Options::default()
            };
            let result =
                plan::plan(&closure, &options).and_then(|plan| pack(plan, &store, threads, &run.history));
            let expected_layers = &expected[format!("layers{at}")];
            if let Some(error) = expected_layers.get("error") {
                let message = result.unwrap_err().to_string();
                assert!(message.starts_with(error.as_str().unwrap()), "{name}: {message}");
                return;
            }
            let layers = result.unwrap();
            let json = write_layers(&layers);
            if expected_layers.is_null() {
                assert_eq!(
                    json, b"[]",
                    "{name}: an empty file is [] where nix2container writes null (its #209)"
                );
            } else {
                assert_eq!(
                    serde_json::from_slice::<Value>(&json).unwrap(),
                    *expected_layers,
                    "{name} layers{at}"
                );
                assert_eq!(sha256(&json), expected[format!("layers{at}.sha256")], "{name} layers{at}.sha256");
                assert_eq!(read_layers(std::str::from_utf8(&json).unwrap(), "it").unwrap(), layers);
            }
            made.push(layers);
        }
        if let Some(config) = &vector.config {
            check_image(name, config, &vector.image_args, made, &expected);
        }
    }
}

fn check_image(name: &str, config: &Value, args: &[String], made: Vec<Vec<Layer>>, expected: &Value) {
    let arg = |flag: &str| args.iter().position(|arg| arg == flag).map(|at| args[at + 1].clone());
    let mut spec = ImageSpec {
        version: 1,
        config: ImageConfig::from_value(config.clone()).unwrap().0,
        layers: Vec::new(),
        arch: arg("--arch").unwrap_or_else(|| "amd64".into()),
        created: Some(arg("--created").unwrap_or_else(|| ZERO_TIME.into())),
        annotations: BTreeMap::new(),
    };
    made.into_iter().flatten().for_each(|layer| spec.push(layer));
    let json = spec.write();
    if spec.layers.is_empty() {
        // Ours are an empty list where nix2container's are null, in the spec and in what is made of it.
        assert_eq!(
            String::from_utf8(json).unwrap().replace("[]", "null").into_bytes().len(),
            go_json::indented(&expected["image"]).len()
        );
        return;
    }
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected["image"], "{name} image");
    assert_eq!(sha256(&json), expected["image.sha256"], "{name} image.sha256");
    assert_eq!(
        ImageSpec::read(std::str::from_utf8(&json).unwrap(), "it").unwrap(),
        spec,
        "{name} round trip"
    );
    let config = oci::config(&spec);
    assert_eq!(std::str::from_utf8(&config).unwrap(), expected["config.blob"], "{name} config");
    let layers = spec
        .layers
        .iter()
        .map(|layer| Descriptor::new(&layer.media_type, layer.digest, layer.size))
        .collect();
    let manifest = go_json::compact(&oci::manifest(&spec, layers));
    assert_eq!(std::str::from_utf8(&manifest).unwrap(), expected["manifest"], "{name} manifest");
    assert_eq!(
        format!("sha256:{}", sha256(&manifest)),
        expected["manifest.digest"],
        "{name} manifest.digest"
    );
}

macro_rules! vectors {
    ($($test:ident: $name:literal;)*) => {
        $(#[test] fn $test() { check($name); })*
    };
}

vectors! {
    golden_layered: "layered";
    g17_golden_names: "names";
    golden_perms: "perms";
    golden_rewrites: "rewrites";
    golden_conflict: "conflict";
    golden_empty: "empty";
    golden_big: "big";
    golden_popularity_1: "popularity-1";
    golden_popularity_2: "popularity-2";
    golden_popularity_5: "popularity-5";
    golden_popularity_100: "popularity-100";
}

/// nix2container's unit tests run in its `nix` folder, on files that they name relative to it.
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
    let plan = vec![vec![PlannedPath { path: StorePath::from(path), options }]];
    pack(plan, &store, 2, &History::default()).unwrap().remove(0)
}

/// TestTar.
#[test]
fn g1_test_tar() {
    let layer = upstream("../data/tar-directory", vec![]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:1ea63d00b937dc24c711265b80444cc9e7e63751fb7f349b160be61d31381983"
    );
    assert_eq!(layer.size, 4096);
}

/// TestNewLayers, first half.
#[test]
fn g2_test_new_layers() {
    let layer = upstream("../data/layer1/file1", vec![]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e"
    );
    assert_eq!((layer.diff_id.as_digest(), layer.size), (layer.digest, 3072));
    assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(go_json::compact(&layer.paths), br#"[{"path":"../data/layer1/file1"}]"#);
}

/// TestPerms.
#[test]
fn g3_test_perms() {
    let perm = Perm { regex: ".*file1".into(), mode: "0641".into(), ..Perm::default() };
    let layer = upstream("../data/layer1/file1", vec![perm]);
    assert_eq!(
        layer.digest.to_string(),
        "sha256:adf74a52f9e1bcd7dab77193455fa06743b979cf5955148010e5becedba4f72d"
    );
    assert_eq!(layer.size, 3072);
}

/// TestNewLayers, second half: the blob kept as a file has the same digest and is the tar itself.
#[test]
fn g4_a_kept_blob_is_the_tar() {
    let (temporary, store) = upstream_store();
    let plan = vec![vec![PlannedPath { path: "../data/layer1/file1".into(), options: None }]];
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
    layout::write(&spec, &store, &out, "t", None, &Packer::new(1), &Control::new(&stop, &())).unwrap();
    let blob = fs::read(out.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(sha256(&blob), "cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e");
}

fn entries(paths: &[&str], store: &Store) -> Vec<(String, u32)> {
    let planned: Vec<_> =
        paths.iter().map(|path| PlannedPath { path: (*path).into(), options: None }).collect();
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

/// TestGraph and TestWalkGraph: parents are made, siblings are sorted.
#[test]
fn g5_g7_parents_first_and_sorted() {
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
fn g8_a_relative_directory_keeps_its_dots() {
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
fn g6_other_perms_for_the_same_place_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    let planned = |name: &str, uid| {
        Tree::File { text: String::new(), mode: 0o444 }.write(&temporary.path().join(name).join("file1"));
        let path = format!("/nix/store/{name}");
        let options = PathOptions {
            rewrite: RewritePath::to_root(&path).rewrite,
            perms: vec![Perm { regex: "file1".into(), uid, ..Perm::default() }],
        };
        PlannedPath { path: path.into(), options: Some(options) }
    };
    let error = pack(vec![vec![planned("a", 1), planned("b", 2)]], &store, 1, &History::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the file '/file1' already exists in the tar with perms 0444 1:0"), "{error}");
}
