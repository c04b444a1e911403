//! Compares the packer byte for byte with nix2container: every vector in `golden/`, at 1, 2 and 8 threads.

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nixply_documents::go_json;
use nixply_oci::{Descriptor, History, ImageConfig, ZERO_TIME};
use nixply_packer::request::LayerPlan;
use nixply_packer::{Codec, Control, Error, ImageSpec, Layer, LayerPath, Packer};
use nixply_planning::plan::{self, Options};
use nixply_planning::{Closure, PermPath, RewritePath, Store, Strategy};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |file: String| trees::unescape(&fs::read_to_string(directory.join(file)).unwrap());
    let vector: Vector = serde_json::from_str(&read(format!("{name}.json"))).unwrap();
    let expected: Value = serde_json::from_str(&read(format!("{name}.expected.json"))).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    for (path, tree) in &vector.paths {
        trees::make(&store.real_file(path), tree);
    }
    // 8 GiB take a long time, so they are packed only once.
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
            let result = plan::plan(&closure, &options)
                .map_err(Error::from)
                .and_then(|plan| pack(plan, &store, threads, &run.history));
            let expected_layers = &expected[format!("layers{at}")];
            if let Some(error) = expected_layers.get("error") {
                let message = result.unwrap_err().to_string();
                assert!(message.starts_with(error.as_str().unwrap()), "{name}: {message}");
                return;
            }
            let layers = result.unwrap();
            let json = Layer::write_all(&layers);
            if expected_layers.is_null() {
                assert_eq!(
                    json, b"[]",
                    "{name}: an empty file is [] where nix2container writes null (its #209)"
                );
            } else {
                let found: Value = serde_json::from_slice(&json).unwrap();
                assert!(
                    found == *expected_layers,
                    "nix2container makes other layers of golden/{name}.json, layers{at}:\n\
                     nixply {found:#}\nnix2container {expected_layers:#}"
                );
                assert_eq!(sha256(&json), expected[format!("layers{at}.sha256")], "{name} layers{at}.sha256");
                assert_eq!(Layer::read_all(std::str::from_utf8(&json).unwrap(), "it").unwrap(), layers);
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
        // Without layers, nixply writes empty lists where nix2container writes null, in the spec and in the config.
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
        "{name}: reading the written spec"
    );
    let config = spec.config_blob();
    assert_eq!(std::str::from_utf8(&config).unwrap(), expected["config.blob"], "{name} config");
    let layers = spec
        .layers
        .iter()
        .map(|layer| Descriptor::new(&layer.media_type, layer.digest, layer.size))
        .collect();
    let manifest = go_json::compact(&spec.manifest_with(layers));
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
    golden_names: "names";
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
