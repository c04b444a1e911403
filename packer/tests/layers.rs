//! Separate layers (nix2container's `buildLayer`): packed before the image, kept, and excluded from other layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nixply_documents::go_json;
use nixply_packer::request::{BuilderInput, BuilderJob, LAYERS_FILE};
use nixply_packer::{Codec, Control, ImageRequest, ImageSpec, Layer, Packer, Packing};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    /// Creates a store with paths a, b, c, ...: each refers to the previous one.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store { dir: "/nix/store".into(), real_dir: directory.path().join("store") };
        for name in NAMES {
            let path = store.real_file(&path(name));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(name), name.repeat(1000)).unwrap();
        }
        Self { directory, store }
    }

    /// Creates the output of a layers' derivation, a directory in the store.
    fn layers(&self, name: &str, layers: Value) -> String {
        let directory = path(name);
        let out = self.store.real_file(&directory);
        self.builder(&out, json!({"layers": layers}));
        directory
    }

    /// Makes the outputs of a derivation, and checks the description.
    fn builder(&self, out: &Path, mut attrs: Value) {
        let infos: Vec<Value> =
            closure().iter().map(|info| json!({"path": info.path, "references": info.references})).collect();
        let description = self.directory.path().join("description");
        attrs["outputs"] = json!({"out": out, "description": description});
        attrs["closure"] = infos.into();
        let input = BuilderInput::from_attrs(&attrs.to_string()).unwrap();
        let BuilderJob::Packing(job) = input.job(&self.store).unwrap() else {
            panic!("the derivation is not a job for the packer")
        };
        let stop = AtomicBool::new(false);
        let warnings =
            job.run(&Packing::new(&self.store, &Packer::new(2), &Control::new(&stop, &()))).unwrap();
        assert_eq!(warnings, [""; 0]);
        let file = if out.is_dir() { out.join(LAYERS_FILE) } else { out.to_owned() };
        let [json, description] = [file, description].map(|file| fs::read_to_string(file).unwrap());
        assert!(json.contains(HASH) && !description.contains(HASH), "{description}");
        let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(value(&description), value(&json));
    }

    fn read(&self, directory: &str) -> Vec<Layer> {
        let file = self.store.real_file(directory).join(LAYERS_FILE);
        Layer::read_all(&fs::read_to_string(file).unwrap(), "it").unwrap()
    }

    fn image(&self, request: Value) -> ImageSpec {
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let stop = AtomicBool::new(false);
        request
            .build(&closure(), &Packing::new(&self.store, &Packer::new(2), &Control::new(&stop, &())))
            .unwrap()
            .spec
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

fn path(name: &str) -> String {
    format!("/nix/store/{HASH}-{name}")
}

fn closure() -> Closure {
    let info = |(at, name): (usize, &&str)| PathInfo {
        path: path(name).parse().unwrap(),
        references: at.checked_sub(1).map(|at| path(NAMES[at]).parse().unwrap()).into_iter().collect(),
        nar_hash: String::new(),
        nar_size: 0,
    };
    Closure::new(NAMES.iter().enumerate().map(info))
}

fn names(layers: &[Layer]) -> Vec<Vec<String>> {
    let name = |path: &str| path.rsplit('-').next().unwrap().to_owned();
    layers.iter().map(|layer| layer.paths.iter().map(|path| name(path.path.as_str())).collect()).collect()
}

/// Layers are the same whether the image's request contains their requests or their derivations pack them.
#[test]
fn layers_packed_before_or_with_the_image_are_equal() {
    for compression in Codec::all().map(Codec::name) {
        let world = World::new();
        let below =
            world.layers("below", json!({"layer": {"deps": [path("b")]}, "compression": compression}));
        let top = json!({"deps": [path("c")], "maxLayers": 2, "metadata": {"created_by": "me"}});
        let above = world
            .layers("above", json!({"layer": top.clone(), "below": [below], "compression": compression}));
        assert_eq!(names(&world.read(&below)), [["a", "b"]]);
        assert_eq!(names(&world.read(&above)), [["c"]]);
        let rest = json!({"arch": "amd64", "copyToRoot": [path("d")], "compression": compression});
        let with = |layers: Value, parents: Value| {
            let mut request = rest.clone();
            (request["layers"], request["parents"]) = (layers, parents);
            world.image(request)
        };
        let mut nested = top.clone();
        nested["parents"] = json!([0]);
        for parents in [json!([0, 1]), json!([1]), json!([]), json!(null)] {
            let prebuilt = with(json!([{"prebuilt": below}, {"prebuilt": above}]), parents.clone());
            let planned = with(json!([{"deps": [path("b")]}, nested]), parents.clone());
            assert_eq!(prebuilt, planned, "{compression} {parents}");
        }
    }
}

/// A layer's own lock file plans its derivation, and takes precedence over the image's.
#[test]
fn layers_follow_their_own_lock_files() {
    let world = World::new();
    let file = |name: &str, layers: Value| {
        let known = |name: &str| json!({"path": path(name).rsplit('/').next()});
        let (file, paths) = (path(name), json!({"a": known("a"), "b": known("b"), "c": known("c")}));
        let lock =
            json!({"version": 1, "release": 1, "images": {"web": 2}, "layers": layers, "paths": paths});
        fs::write(world.store.real_file(&file), lock.to_string()).unwrap();
        file
    };
    let layer = |paths: Value| json!({"images": ["web"], "paths": paths});
    let lock = file("lock", json!([layer(json!(["b"])), layer(json!(["a", "c"]))]));
    let other = file("other", json!([layer(json!(["d"]))]));
    let locked = json!({"deps": [path("c")], "maxLayers": 2, "lock": {"file": lock, "image": "web"}});
    let made = world.layers("made", json!({"layer": locked}));
    let mut sets = names(&world.read(&made));
    sets.iter_mut().for_each(|layer| layer.sort());
    sets.sort();
    assert_eq!(sets, [vec!["a", "c"], vec!["b"]]);
    let with = |layer: Value| {
        let rest = json!({"name": "web", "arch": "amd64", "copyToRoot": [path("d")], "lock": other});
        let mut request = rest;
        request["layers"] = json!([layer]);
        world.image(request)
    };
    assert_eq!(with(locked.clone()), with(json!({"prebuilt": made})));
    let unknown = json!({"layers": [{"deps": [path("c")], "lock": {"file": lock, "image": "api"}}]});
    let request = ImageRequest::from_json(&unknown.to_string(), "request").unwrap();
    let error = request.plan(&closure(), &world.store).unwrap_err().to_string();
    assert!(error.contains("the lock file has no image \"api\", only web"), "{error}");
}

/// nix2container subtracts the contents of the named layers, but not of the layers below those; the image's digests depend on
/// it.
#[test]
fn only_named_parents_are_left_out() {
    let world = World::new();
    let own = |parents: Value| {
        let layers = json!([{"deps": [path("b")]}, {"deps": [path("c")], "parents": [0]}, {"deps": [path("c")], "parents": []}]);
        let spec = world.image(json!({
            "arch": "amd64", "layers": layers, "copyToRoot": [path("d")], "parents": parents,
        }));
        names(&spec.layers)
    };
    let (below, again) = (vec!["a".to_owned(), "b".into()], vec!["a".to_owned(), "b".into(), "c".into()]);
    let last = |paths: &[&str]| {
        vec![
            below.clone(),
            vec!["c".into()],
            again.clone(),
            paths.iter().map(|path| (*path).to_owned()).collect(),
        ]
    };
    assert_eq!(own(json!(null)), last(&["d"]));
    assert_eq!(own(json!([0, 1])), last(&["d"]));
    assert_eq!(own(json!([1])), last(&["a", "b", "d"]));
    assert_eq!(own(json!([])), last(&["a", "b", "c", "d"]));
}

/// nix2container#219: each tar has its own layer's paths. Also the second half of its TestNewLayers.
#[test]
fn nix2container_219_layers_that_are_not_reproducible_are_kept() {
    for codec in Codec::all() {
        let (compression, suffix) = (codec.name(), codec.suffix());
        let media_type = match codec {
            Codec::None => "tar".to_owned(),
            _ => format!("tar+{compression}"),
        };
        let world = World::new();
        let layer = json!({"deps": [path("c")], "maxLayers": 2, "strategy": "popularity"});
        let request = |reproducible: bool| json!({"layer": layer, "compression": compression, "reproducible": reproducible});
        let directory = world.layers("kept", request(false));
        let kept = world.read(&directory);
        let made_again = world.read(&world.layers("again", request(true)));
        assert_eq!(names(&kept), [vec!["a"], vec!["b", "c"]]);
        assert_eq!(names(&kept), names(&made_again));
        for (kept, again) in kept.iter().zip(&made_again) {
            assert_eq!((kept.diff_id, kept.digest, kept.size), (again.diff_id, again.digest, again.size));
            let file = PathBuf::from(kept.layer_path.clone().unwrap());
            assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("{}{suffix}", kept.digest.hex()));
            let blob = fs::read(&file).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&blob)), kept.digest.hex());
            assert_eq!(kept.media_type, format!("application/vnd.oci.image.layer.v1.{media_type}"));
        }
        let files = fs::read_dir(world.store.real_file(&directory)).unwrap().count();
        assert_eq!(files, 3, "the directory has no other files");
        drop(world.directory);
    }
}

#[test]
fn bad_layers_are_refused_with_their_place() {
    let world = World::new();
    let error = |request: Value| {
        let planned = |request: ImageRequest| request.plan(&closure(), &world.store);
        ImageRequest::from_json(&request.to_string(), "request").and_then(planned).unwrap_err().chain()
    };
    let words = error(json!({"layers": [{"deps": path("a"), "parents": [0]}]}));
    assert!(
        words.starts_with("layers[0].parents[0] 0 is not valid: expected the index of an earlier layer"),
        "{words}"
    );
    let words = error(json!({"parents": [1], "layers": [{"deps": path("a")}]}));
    assert!(words.starts_with("parents[0] 1 is not valid") && words.ends_with("there are 1"), "{words}");
    let words = error(json!({"layers": [{"prebuilt": path("a")}]}));
    assert!(words.contains("cannot read layers") && words.contains("layers.json"), "{words}");
    let words = error(json!({"layers": [{"prebuilt": path("a"), "perms": [{"path": path("a")}]}]}));
    assert!(
        words
            .contains("request: layers[0].prebuilt is not valid: it cannot be combined with other arguments"),
        "{words}"
    );
    let words = error(json!({"layers": [{"prebuilt": "/etc"}]}));
    assert!(
        words.starts_with("layers[0].prebuilt: store path \"/etc\" is not valid")
            && words.contains("not in the store"),
        "{words}"
    );
}

/// nix2container#124 and its missing health check, and the config that an image inherits from its base (its #79).
#[test]
fn nix2container_124_annotations_health_check_and_inherited_config_are_in_the_documents() {
    let world = World::new();
    let base = world
        .image(json!({"arch": "amd64", "config": {"Env": ["A=1"], "User": "u"}, "copyToRoot": [path("a")]}));
    let base_file = path("base.json");
    fs::write(world.store.real_file(&base_file), base.write()).unwrap();
    let request = json!({
        "arch": "amd64", "config": {"Cmd": ["x"], "healthcheck": {"Test": ["CMD", "dropped"]}}, "configRoots": [path("b")],
        "annotations": {"z": "1", "org.opencontainers.image.source": "<here>"}, "fromImage": base_file,
        "inheritConfig": true, "healthcheck": {"test": [format!("{}/b", path("b"))], "retries": 2},
    });
    let spec = world.image(request.clone());
    let config: Value = serde_json::from_slice(&spec.config_blob()).unwrap();
    let expected = json!({
        "User": "u", "Env": ["A=1"], "Cmd": ["x"],
        "Healthcheck": {"Test": ["CMD", format!("{}/b", path("b"))], "Retries": 2},
    });
    assert_eq!(config["config"], expected);
    assert_eq!(
        names(&spec.layers),
        [vec!["a"], vec!["a", "b"]],
        "the image contains the program of the health check"
    );
    let manifest = String::from_utf8(go_json::compact(&spec.manifest())).unwrap();
    let annotations = r#"],"annotations":{"org.opencontainers.image.source":"\u003chere\u003e","z":"1"}}"#;
    assert!(manifest.ends_with(annotations), "{manifest}");
    let again = ImageSpec::read(std::str::from_utf8(&spec.write()).unwrap(), "it").unwrap();
    assert_eq!(again, spec, "the spec keeps all fields");

    let plan = |more: Value| {
        let mut request = request.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        request.plan(&closure(), &world.store)
    };
    let warnings = plan(json!({})).unwrap().warnings;
    assert!(
        warnings[0].starts_with("config.healthcheck is not part of OCI's")
            && warnings[0].contains("the argument healthcheck"),
        "{warnings:?}"
    );
    let error = plan(json!({"fromImage": null})).unwrap_err().to_string();
    assert_eq!(error, "inheritConfig is not valid: it requires the argument fromImage");
}
