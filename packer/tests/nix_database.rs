//! An image's Nix database: the paths in it, and its layer.

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use nixply_packer::request::{BuilderInput, BuilderJob, LAYERS_FILE};
use nixply_packer::{Codec, Control, ImageRequest, ImageSpec, Layer, LayerPath, Packer, Packing};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::{Value, json};

/// Owner of a layer's entry: mode, user, group.
type Owner = (u32, u64, u64);

struct World {
    _temporary: tempfile::TempDir,
    store: Store,
}

fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

/// Each path's references: `app` needs `lib`, `env` refers to `app`, and `tree` is a root file system with its own /nix.
fn closure() -> Closure {
    let info = |name: &str, references: &[&str]| PathInfo {
        path: path(name).parse().unwrap(),
        references: references.iter().map(|name| path(name).parse().unwrap()).collect(),
        nar_hash: String::new(),
        nar_size: 1,
    };
    Closure::new([
        info("lib", &[]),
        info("app", &["lib", "app"]),
        info("env", &["app"]),
        info("tree", &[]),
        info("made", &["lib", "env"]),
        info("database", &["app", "lib"]),
    ])
}

impl World {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let world = Self {
            store: Store { dir: "/nix/store".into(), real_dir: temporary.path().into() },
            _temporary: temporary,
        };
        for (name, files) in [
            ("lib", &["lib"][..]),
            ("app", &["bin/app"]),
            ("env", &["bin/env"]),
            ("tree", &["tmp/x", "nix/var/nix/profiles/x", "nix/store/.links/x"]),
            ("made", &[]),
            ("database", &["nix/var/nix/db/db.sqlite", "nix/store/.links/.keep"]),
        ] {
            fs::create_dir(world.real(name)).unwrap();
            for file in files {
                let file = world.real(name).join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, name).unwrap();
            }
        }
        world
    }

    fn real(&self, name: &str) -> std::path::PathBuf {
        self.store.real_file(&path(name))
    }

    fn request(request: Value) -> nixply_packer::Result<ImageRequest> {
        let mut all = json!({"arch": "amd64"});
        all.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        ImageRequest::from_json(&all.to_string(), "request")
    }

    fn build(&self, request: Value) -> nixply_packer::Result<(ImageSpec, Vec<String>)> {
        let stop = AtomicBool::new(false);
        let control = Control::new(&stop, &());
        let built = Self::request(request)?
            .build(&closure(), &Packing::new(&self.store, &Packer::new(2), &control))?;
        Ok((built.spec, built.warnings))
    }

    /// Returns the image's layers; fails on a warning.
    fn layers(&self, request: Value) -> Vec<Layer> {
        let (spec, warnings) = self.build(request).unwrap();
        assert_eq!(warnings, [""; 0]);
        spec.layers
    }

    /// Returns a layer's entries, in order.
    fn entries(&self, layer: &Layer) -> Vec<(String, Owner)> {
        let sink = trees::Memory::default();
        let stop = AtomicBool::new(false);
        let paths = [LayerPath::all(&layer.paths, &self.store).unwrap()];
        Packer::new(1).pack(&paths, Codec::None, &sink, &Control::new(&stop, &())).unwrap();
        let blob = sink.blob(0);
        let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let entry = entry.unwrap();
            let header = entry.header();
            let owner = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), owner)
        };
        tar::Archive::new(&blob[..]).entries().unwrap().map(entry).collect()
    }

    /// Returns the files in a container: if several layers have the same file, the upper one counts.
    fn seen(&self, layers: &[Layer]) -> BTreeMap<String, Owner> {
        layers.iter().flat_map(|layer| self.entries(layer)).collect()
    }

    /// Returns the paths that a derivation would add to the database, without `/nix/store/HASH-`.
    fn registered(&self, layers: Value) -> nixply_packer::Result<Vec<String>> {
        let infos: Vec<_> =
            closure().iter().map(|info| json!({"path": info.path, "references": info.references})).collect();
        let attrs = json!({"outputs": {"out": "/out"}, "closure": infos, "nixDatabase": {"layers": layers}});
        match BuilderInput::from_attrs(&attrs.to_string())?.job(&self.store)? {
            BuilderJob::NixDatabase { output, paths } => {
                assert_eq!(output.to_str(), Some("/out"));
                let name = |info: &PathInfo| info.path.as_str().rsplit_once('-').unwrap().1.to_owned();
                Ok(paths.iter().map(name).collect())
            }
            BuilderJob::Packing(job) => panic!("{job:?}"),
        }
    }
}

fn names(layer: &Layer) -> Vec<&str> {
    layer.paths.iter().map(|path| path.path.as_str().rsplit_once('-').unwrap().1).collect()
}

const DATABASE: [&str; 3] = ["/nix", "/nix/store", "/nix/var/nix/db"];

/// The database and another tree are in one layer, which happens if the database is one of copyToRoot's paths. The other tree has
/// rules, but none for /nix.
#[test]
fn nix2container_201_a_rule_for_nix_overrides_a_tree_without_one() {
    let world = World::new();
    let perms = [
        json!({"path": path("tree"), "regex": "(/var)?/tmp", "mode": "1777"}),
        json!({"path": path("database"), "regex": ".*", "mode": "0755", "uid": 1000, "gid": 100}),
    ];
    for roots in [["tree", "database", "app"], ["app", "database", "tree"]] {
        let layers = world.layers(json!({"copyToRoot": roots.map(path), "perms": perms}));
        let [layer] = &layers[..] else { panic!("{layers:?}") };
        let entries = world.entries(layer);
        let owner = |place: &str| {
            let found: Vec<_> = entries.iter().filter(|(name, _)| name == place).collect();
            assert_eq!(found.len(), 1, "{place}");
            found[0].1
        };
        for place in DATABASE.into_iter().chain(["/nix/var", "/nix/var/nix", "/nix/store/.links"]) {
            assert_eq!(owner(place), (0o755, 1000, 100), "{place}");
        }
        // The parents of a path that keeps its place have the database's owner, but the path itself does not.
        assert_eq!(owner(&path("lib")).1, 0);
        assert_eq!((owner("/tmp"), owner("/nix/var/nix/profiles").1), ((0o1777, 0, 0), 0));
        assert_eq!(owner("/").1, 0);
    }
}

/// Rules of other layers for /nix contradict the database's. The database's apply, because its layer is on top.
#[test]
fn nix2container_201_other_rules_for_nix_do_not_conflict_with_the_database() {
    let world = World::new();
    let all = |path: String, uid: u32| json!({"path": path, "regex": "", "mode": "0700", "uid": uid});
    let request = json!({
        "layers": [{"deps": path("lib"), "perms": [all(path("lib"), 7)]}],
        "copyToRoot": [path("tree"), path("env")],
        "perms": [all(path("tree"), 5)],
        "maxLayers": 3,
        "nixDatabase": {"path": path("database"), "uid": 1000, "gid": 100},
    });
    let (spec, _) = world.build(request.clone()).unwrap();
    assert_eq!(names(spec.layers.last().unwrap()), ["database"]);
    let seen = world.seen(&spec.layers);
    for place in DATABASE {
        assert_eq!(seen[place], (0o755, 1000, 100), "{place}");
    }
    assert_eq!(seen["/nix/var/nix/profiles"], (0o700, 5, 0));
    assert_eq!(seen[&path("app")].1, 0);
    // The other layers are the same as without a database.
    let mut without = request;
    without.as_object_mut().unwrap().remove("nixDatabase");
    let (without, _) = world.build(without).unwrap();
    assert_eq!(spec.layers[..spec.layers.len() - 1], without.layers);
}

/// The paths in the database are in the image already. The database adds none, whatever the rules of the layers below.
#[test]
fn the_database_adds_only_its_own_files() {
    let world = World::new();
    let database = json!({"path": path("database"), "uid": null});
    let perms = [json!({"path": path("lib"), "mode": "0555", "uid": 7})];
    let layers = json!([{"deps": path("app"), "perms": perms, "strategy": "popularity"}]);
    let layers = world.layers(json!({"layers": layers, "nixDatabase": database}));
    let [below, top] = &layers[..] else { panic!("{layers:?}") };
    assert_eq!((names(below), names(top)), (vec!["lib", "app"], vec!["database"]));
    assert_eq!(world.seen(&layers)["/nix"], (0o755, 0, 0));

    let (spec, warnings) =
        world.build(json!({"layers": [{"deps": path("lib")}], "nixDatabase": database})).unwrap();
    assert_eq!(spec.layers.len(), 2);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected =
        format!("the Nix database has {}, but the image does not have it at that place", path("app"));
    assert!(warnings[0].starts_with(&expected), "{warnings:?}");
}

#[test]
fn a_wrong_database_is_refused() {
    let world = World::new();
    let refused = |database: Value, words: &str| {
        let error = world.build(json!({"nixDatabase": database})).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let unknown = path("unknown");
    refused(
        json!({"path": unknown}),
        &format!("{unknown} is not in the closure, although nixDatabase names it"),
    );
    refused(json!({"path": "/etc"}), "nixDatabase.path: store path \"/etc\" is not valid");
    refused(
        json!({"path": path("database"), "uid": -1}),
        "nixDatabase.uid must be an id from 0 to 4294967294, not -1",
    );
    fs::remove_dir_all(world.real("database")).unwrap();
    fs::write(world.real("database"), "").unwrap();
    refused(json!({"path": path("database")}), "it is a file, but copyToRoot needs a directory");
}

/// nix2container's database contains paths that are only at the root (its #165 and #192), and `nix-store --verify` fails.
#[test]
fn nix2container_192_paths_copied_to_the_root_are_not_in_the_database() {
    let world = World::new();
    let registered = |layers: Value| world.registered(layers).unwrap();
    assert_eq!(registered(json!([{"copyToRoot": path("env")}])), ["app", "lib"]);
    assert_eq!(registered(json!([{"deps": path("env")}])), ["app", "env", "lib"]);
    // Another layer has the path in the store.
    let both = json!([{"copyToRoot": [path("env"), path("lib")]}, {"deps": [path("lib")]}]);
    assert_eq!(registered(both), ["app", "lib"]);
    assert_eq!(registered(json!([{"copyToRoot": path("lib"), "deps": path("app")}])), ["app"]);
    assert_eq!(registered(json!([{"deps": path("env"), "ignore": path("env")}])), ["app", "lib"]);
    assert_eq!(registered(json!([])), [""; 0]);
}

#[test]
fn prebuilt_layers_list_their_paths() {
    let world = World::new();
    let layers = world.layers(json!({"layers": [{"deps": path("lib")}, {"copyToRoot": path("env")}]}));
    fs::write(world.real("made").join(LAYERS_FILE), Layer::write_all(&layers)).unwrap();
    assert_eq!(world.registered(json!([{"prebuilt": path("made")}])).unwrap(), ["app", "lib"]);
}

#[test]
fn invalid_layers_of_a_database_are_named() {
    let world = World::new();
    let refused = |layers: Value, words: &str| {
        let error = world.registered(layers).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(json!([{}, {"deps": "/etc"}]), "nixDatabase.layers[1].deps[0]: store path \"/etc\" is not valid");
    refused(json!([{"deps": path("x")}]), "x is not in the closure, although nixDatabase.layers[0] names it");
    refused(
        json!([{"dep": []}]),
        "structured attributes: nixDatabase.layers[0] cannot have the key `dep`; did you mean `deps`?",
    );
}
