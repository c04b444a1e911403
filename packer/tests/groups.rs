//! Groups of strategy `explicit`, from a request to the image: the meaning of predicates, and the independence of a layer's
//! bytes from everything except the paths that the predicates match.

use std::fs;
use std::sync::atomic::AtomicBool;

use nixply_packer::request::{BuiltImage, PlannedLayer};
use nixply_packer::{Control, ImageRequest, Packer, Packing};
use nixply_planning::{Closure, PathInfo, Store, Strategy};
use serde_json::{Value, json};

const NAMES: [&str; 8] = [
    "app-1.0",
    "command-1",
    "glibc-2.40",
    "openssl-3.0",
    "python3-3.12",
    "python3.12-requests-2.31",
    "root",
    "zlib-1.3",
];

/// Returns a store path with a distinct hash, because configs name paths by their hashes.
fn path(name: &str) -> String {
    let at = NAMES.iter().position(|known| *known == name).unwrap();
    format!("/nix/store/{}-{name}", at.to_string().repeat(32))
}

/// A Python app with a module, a command that the config names, and a directory for the root. Sizes are in MB.
fn closure() -> Closure {
    let paths: [(&str, u64, &[&str]); 8] = [
        ("app-1.0", 1, &["python3-3.12", "python3.12-requests-2.31", "glibc-2.40"]),
        ("command-1", 1, &["glibc-2.40"]),
        ("glibc-2.40", 30, &[]),
        ("openssl-3.0", 8, &["glibc-2.40"]),
        ("python3-3.12", 100, &["openssl-3.0", "glibc-2.40", "zlib-1.3"]),
        ("python3.12-requests-2.31", 2, &["python3-3.12"]),
        ("root", 1, &[]),
        ("zlib-1.3", 1, &["glibc-2.40"]),
    ];
    Closure::new(paths.map(|(name, megabytes, references)| PathInfo {
        path: path(name).parse().unwrap(),
        references: references.iter().map(|name| path(name).parse().unwrap()).collect(),
        nar_hash: String::new(),
        nar_size: megabytes * 1_000_000,
    }))
}

fn request(more: Value) -> ImageRequest {
    let mut all = json!({
        "arch": "amd64", "maxLayers": 9, "copyToRoot": [path("app-1.0"), path("root")],
        "config": {"Cmd": [path("command-1")]}, "configRoots": [path("command-1")],
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ImageRequest::from_json(&all.to_string(), "request").unwrap()
}

/// Returns the layers' packages, and the warnings.
fn planned(more: Value) -> (Vec<String>, Vec<String>) {
    let plan = request(more).plan(&closure(), &Store::at("/nix/store")).unwrap();
    let layers = plan.layers.iter().map(|layer| {
        let name = |path: &nixply_planning::PlannedPath| {
            let name = path.path.as_str().split_once('-').unwrap().1;
            name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned()
        };
        layer.paths().iter().map(name).collect::<Vec<_>>().join(" ")
    });
    (layers.collect(), plan.warnings)
}

fn layers(more: Value) -> Vec<String> {
    let (layers, warnings) = planned(more);
    assert_eq!(warnings, [""; 0]);
    layers
}

fn built(more: Value) -> BuiltImage {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    for info in closure().iter() {
        let directory = store.real_path(&info.path).join("share");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(info.path.as_str().rsplit('/').next().unwrap()), "").unwrap();
    }
    let stop = AtomicBool::new(false);
    request(more)
        .build(&closure(), &Packing::new(&store, &Packer::new(2), &Control::new(&stop, &())))
        .unwrap()
}

#[test]
fn roots_are_the_paths_in_the_request() {
    let (roots, rest) = ("root command app", "glibc zlib openssl python3 python3.12-requests");
    assert_eq!(layers(json!({"groups": [{"roots": true}]})), [roots, rest]);
    assert_eq!(layers(json!({"groups": [{"not": {"roots": true}}]})), [rest, roots]);
    // Roots of a separate layer are its deps and copyToRoot, except the paths that it ignores.
    let layer = json!({
        "deps": [path("python3-3.12"), path("root")], "ignore": path("root"), "maxLayers": 9, "groups": [{"roots": true}],
    });
    let below = layers(json!({"layers": [layer], "strategy": "popularity", "maxLayers": 1}));
    assert_eq!(below[..2], ["python3", "glibc zlib openssl"]);
}

/// The groups of nixpkgs' Python pipeline: the interpreter's closure, then the modules, then the app.
#[test]
fn a_pipeline_becomes_groups_in_order() {
    let python = path("python3-3.12");
    let groups = json!([
        {"paths": {"depsOf": python}, "strategy": "popularity", "maxLayers": 3},
        {"all": [{"dependentsOf": python}, {"name": "python3\\..*"}]},
        {"maxSize": "1 MB"},
    ]);
    let expected = ["glibc", "zlib", "openssl python3", "python3.12-requests", "root command app"];
    assert_eq!(layers(json!({"groups": groups})), expected);
    assert_eq!(layers(json!({"groups": groups, "strategy": "explicit", "maxLayers": 5})), expected);
    let error = request(json!({"groups": groups, "maxLayers": 4}));
    let error = error.plan(&closure(), &Store::at("/nix/store")).unwrap_err().to_string();
    assert!(error.starts_with("strategy explicit makes 5 layers, but maxLayers is 4"), "{error}");
}

#[test]
fn groups_without_paths_cause_a_warning() {
    let groups = json!([{"name": "pyhton.*"}, {"all": []}, {"minSize": 1}]);
    let (layers, warnings) = planned(json!({"groups": groups}));
    assert_eq!(layers.len(), 1);
    assert_eq!(
        warnings,
        [
            "groups[0] matches no path of the layer: loosen its predicates, or remove it",
            "groups[2] gets no path: other groups have all paths that it matches; move it before them, or remove it"
        ]
    );
    let below = json!([{"deps": path("zlib-1.3"), "groups": [{"name": "openssl"}]}]);
    let (_, warnings) = planned(json!({"layers": below}));
    assert!(warnings[0].starts_with("layers[0].groups[0] matches no path"), "{warnings:?}");
}

/// A layer from a predicate has the same bytes as a layer with an explicit list of paths.
#[test]
fn bytes_depend_only_on_the_groups_paths() {
    let list = ["glibc-2.40", "openssl-3.0", "zlib-1.3", "python3-3.12"].map(path);
    let plain = built(json!({"groups": [list]}));
    assert_eq!(plain.spec.layers.len(), 2);
    for groups in [
        json!([{"depsOf": path("python3-3.12")}]),
        json!([{"paths": list}]),
        json!([{"any": list}]),
        json!([[path("glibc-2.40"), {"name": "(openssl|zlib|python3)-.*"}]]),
        json!([{"paths": {"not": {"dependentsOf": {"not": {"depsOf": path("python3-3.12")}}}}, "maxLayers": 1}]),
    ] {
        assert_eq!(built(json!({"groups": groups})).json, plain.json, "{groups}");
    }
    let json = String::from_utf8(plain.json).unwrap();
    let digests = plain.spec.layers.iter().map(|layer| layer.digest.to_string()).collect::<Vec<_>>();
    assert!(digests.iter().all(|digest| json.contains(digest)));
    assert_eq!(
        digests,
        [
            "sha256:4cfa701c3e1b18947bed88097a11251430df0ae9ab34f8d1549720c720877eff",
            "sha256:b3fff3f031c894659fd070edc26ef7c90eeede0cda4d728673688c4e251f08f5"
        ]
    );
}

/// An image or layer without a strategy uses `min-churn`.
#[test]
fn the_default_strategy_is_min_churn() {
    let below = |more: Value| {
        let mut layer = json!({"deps": path("python3-3.12"), "maxLayers": 2});
        layer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"layers": [layer], "maxLayers": 1})
    };
    for with in [&|more: Value| layers(more), &|more: Value| layers(below(more))] as [&dyn Fn(Value) -> _; 2]
    {
        assert_eq!(with(json!({})), with(json!({"strategy": "nixply"})));
        assert_ne!(with(json!({})), with(json!({"strategy": "popularity"})));
    }
}

/// A group's strategy decides as for a closure of only that group's paths.
#[test]
fn a_groups_strategy_sees_only_its_paths() {
    let paths = ["openssl-3.0", "python3-3.12", "zlib-1.3"].map(path);
    let infos = closure();
    let alone = infos.iter().filter(|info| paths.contains(&info.path.to_string())).cloned();
    let mut alone: Vec<PathInfo> = alone.collect();
    for info in &mut alone {
        info.references.retain(|reference| paths.contains(&reference.to_string()));
    }
    for strategy in Strategy::automatic().map(Strategy::name) {
        let group = json!({"paths": paths, "strategy": strategy, "maxLayers": 3});
        let grouped = request(json!({"groups": [group]})).plan(&infos, &Store::at("/nix/store")).unwrap();
        let of_group = |layer: &&PlannedLayer| paths.contains(&layer.paths()[0].path.to_string());
        let grouped: Vec<_> = grouped.layers.iter().filter(of_group).map(PlannedLayer::paths).collect();
        let plain =
            json!({"arch": "amd64", "layers": [{"deps": paths, "strategy": strategy, "maxLayers": 3}]});
        let plain = ImageRequest::from_json(&plain.to_string(), "request").unwrap();
        let plain = plain.plan(&Closure::new(alone.clone()), &Store::at("/nix/store")).unwrap();
        assert_eq!(grouped, plain.layers.iter().map(PlannedLayer::paths).collect::<Vec<_>>(), "{strategy}");
    }
}
