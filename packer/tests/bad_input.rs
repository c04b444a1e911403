//! Bad input causes a clear error that names the subject, the place and the remedy, and leaves no incomplete files.

mod trees;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use nixply_oci::ImageConfig;
use nixply_packer::image::layout;
use nixply_packer::{Control, Error, ImageRequest, ImageSpec, LayerPath, Packer, Packing, Progress};
use nixply_planning::{Closure, PathInfo, PlannedPath, Store};
use serde_json::{Value, json};

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
const B: &str = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b";
const C: &str = "/nix/store/23456789abcdfghijklmnpqrsvwxyz01-c";

struct Sandbox {
    _temporary: tempfile::TempDir,
    store: Store,
}

impl Sandbox {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().join("store") };
        fs::create_dir(&store.real_dir).unwrap();
        Self { _temporary: temporary, store }
    }

    fn real(&self, path: &str) -> PathBuf {
        self.store.real_file(path)
    }

    fn write(&self, path: &str, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.real(path).join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        file
    }

    /// Builds an image with both paths' content at its root.
    fn to_root(&self, more: Value) -> Result<ImageSpec, Error> {
        let mut request = json!({"copyToRoot": [A, B], "arch": "amd64"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.build(&request, &[A, B])
    }

    fn build(&self, request: &Value, paths: &[&str]) -> Result<ImageSpec, Error> {
        let info = |path: &&str| PathInfo {
            path: path.parse().unwrap(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: 0,
        };
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request")?;
        let closure = Closure::new(paths.iter().map(info));
        request
            .build(&closure, &Packing::new(&self.store, &Packer::new(2), &Control::new(&stop, &())))
            .map(|built| built.spec)
    }
}

fn refused(result: Result<ImageSpec, Error>, words: &[&str]) {
    let message = result.unwrap_err().chain();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in the message: {message}");
    }
}

#[test]
fn a_deleted_store_path_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "f", b"");
    let real = sandbox.real(B).display().to_string();
    refused(sandbox.to_root(json!({})), &["store path does not exist", "nix-store --realise", &real]);
    let request = json!({"layers": [{"deps": [B]}], "arch": "amd64"});
    refused(sandbox.build(&request, &[B]), &["store path does not exist", &real]);
}

/// Runs a function on the store as soon as the first bytes of a file are packed. The threshold skips the parents' headers.
struct Saboteur<F: Fn() + Sync>(Mutex<Option<F>>);

impl<F: Fn() + Sync + Send> Progress for Saboteur<F> {
    fn packed(&self, _layer: usize, bytes: u64) {
        if bytes > 64 << 10
            && let Some(sabotage) = self.0.lock().unwrap().take()
        {
            sabotage();
        }
    }
}

/// Packs a path of several frames while `sabotage` runs, and returns the error.
fn sabotaged(sandbox: &Sandbox, sabotage: impl Fn() + Sync + Send) -> String {
    // Large enough to be read in many steps, so that the packer has not read ahead to the sabotaged file.
    sandbox.write(A, "a-big", &vec![7; 64 << 20]);
    let stop = AtomicBool::new(false);
    let saboteur = Saboteur(Mutex::new(Some(sabotage)));
    let layers =
        [LayerPath::all(&[PlannedPath { path: A.parse().unwrap(), options: None }], &sandbox.store).unwrap()];
    let control = Control::new(&stop, &saboteur);
    Packer::new(2).pack(&layers, "none".parse().unwrap(), &(), &control).unwrap_err().chain()
}

#[test]
fn a_store_path_deleted_while_it_is_packed_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "z", b"last");
    let real = sandbox.real(A);
    let message = sabotaged(&sandbox, || fs::remove_dir_all(&real).unwrap());
    assert!(message.contains("store path does not exist") && message.ends_with("-a"), "{message}");
}

#[test]
fn a_file_deleted_while_its_path_is_packed_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.write(A, "z", b"last");
    let message = sabotaged(&sandbox, || fs::remove_file(&file).unwrap());
    assert!(message.contains("store path changed while it was packed (a file was deleted)"), "{message}");
    assert!(message.ends_with("-a/z"), "{message}");
}

#[test]
fn a_file_that_shrinks_or_grows_is_noticed() {
    for (size, words) in [(1 << 20, "bytes, but it ended after"), (65 << 20, "bytes, but it has more")] {
        let sandbox = Sandbox::new();
        let file = sandbox.real(A).join("a-big");
        let message = sabotaged(&sandbox, || {
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(size).unwrap()
        });
        assert!(message.contains(words) && message.ends_with("-a/a-big"), "{message}");
    }
}

/// The largest layer begins first, so another layer's error may come before the first layer's.
#[test]
fn the_error_of_the_first_layer_is_reported() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "a-big", &vec![7; 8 << 20]);
    sandbox.write(A, "lib/.wh.gone", b"");
    let planned = |path: &str| PlannedPath { path: path.parse().unwrap(), options: None };
    for threads in [1, 2, 8] {
        // The second layer claims to be larger and does not exist; the third is valid.
        sandbox.write(C, "f", b"");
        let layer =
            |path, size| vec![LayerPath::new(&planned(path), &sandbox.store).unwrap().with_archive("", size)];
        let layers = [layer(A, 8 << 20), layer(B, 1 << 40), layer(C, 1)];
        let stop = AtomicBool::new(false);
        let packed =
            Packer::new(threads).pack(&layers, "zstd:1".parse().unwrap(), &(), &Control::new(&stop, &()));
        let message = packed.unwrap_err().chain();
        assert!(message.contains(".wh.gone"), "{threads} threads: {message}");
    }
}

#[test]
fn two_files_at_one_place_are_an_error_that_names_both() {
    let both = |a: &[u8], b: &[u8]| {
        let sandbox = Sandbox::new();
        sandbox.write(A, "etc/f", a);
        sandbox.write(B, "etc/f", b);
        sandbox.to_root(json!({}))
    };
    let names = ["/etc/f", &format!("{A}/etc/f"), &format!("{B}/etc/f"), "remove one of the two"];
    refused(both(b"one", b"three"), &names);
    refused(both(b"one", b"two"), &[&names[..], &["other content"]].concat());
    assert!(both(b"same", b"same").is_ok());
}

#[test]
fn a_link_and_a_directory_at_one_place_are_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "x", b"");
    symlink("usr/bin", sandbox.real(A).join("bin")).unwrap();
    sandbox.write(B, "bin/f", b"");
    refused(sandbox.to_root(json!({})), &["'/bin'", "mode 'Lrwxrwxrwx'", "mode 'drwxr-xr-x'"]);
    let sandbox = Sandbox::new();
    for (path, target) in [(A, "one"), (B, "two")] {
        fs::create_dir(sandbox.real(path)).unwrap();
        symlink(target, sandbox.real(path).join("link")).unwrap();
    }
    refused(sandbox.to_root(json!({})), &["symlink '/link'", "'one'", "'two'"]);
}

/// Files conflict only if their headers differ, whichever rules set them. A path without a rule for the file does not conflict.
#[test]
fn nix2container_144_rules_with_the_same_effect_do_not_conflict() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "etc/a", b"");
    sandbox.write(B, "etc/b", b"");
    let perm = |path: &str, regex: &str, uid: u32| json!({"path": path, "regex": regex, "uid": uid});
    assert!(sandbox.to_root(json!({"perms": [perm(A, "etc/a", 5)]})).is_ok());
    assert!(sandbox.to_root(json!({"perms": [perm(A, "", 5), perm(B, "etc", 5)]})).is_ok());
    assert!(sandbox.to_root(json!({"perms": [perm(A, "etc$", 5)]})).is_ok());
    refused(
        sandbox.to_root(json!({"perms": [perm(A, "etc$", 5), perm(B, "", 0)]})),
        &["'/etc' already exists in the tar with perms", "5:0", "0:0", "remove one of the two"],
    );
}

/// No rule can solve this conflict. In separate layers, the upper one counts.
#[test]
fn nix2container_162_a_directory_and_a_link_at_one_place_are_named() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "share/mime", b"");
    fs::create_dir(sandbox.real(B)).unwrap();
    symlink("lib/share", sandbox.real(B).join("share")).unwrap();
    refused(
        sandbox.to_root(json!({"perms": [{"path": A, "mode": "0755"}]})),
        &["'/share'", &format!("{A}/share"), &format!("{B}/share"), "give one of them its own place"],
    );
    let apart = json!({"layers": [{"copyToRoot": A}], "copyToRoot": B, "arch": "amd64"});
    assert!(sandbox.build(&apart, &[A, B]).is_ok());
}

#[test]
fn more_layers_than_runtimes_support_are_refused() {
    let sandbox = Sandbox::new();
    let paths: Vec<String> = (0..130).map(|at| format!("/nix/store/{at:032}-p")).collect();
    for path in &paths {
        sandbox.write(path, "f", path.as_bytes());
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let request = |limit: usize| json!({"layers": [{"deps": paths, "maxLayers": 200}], "arch": "amd64", "layerLimit": limit});
    refused(sandbox.build(&request(127), &paths), &["130 layers", "at most 127", "maxLayers", "layerLimit"]);
    assert_eq!(sandbox.build(&request(130), &paths).unwrap().layers.len(), 130);
}

#[test]
fn special_files_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "f", b"");
    sandbox.write(B, "f", b"");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.real(B).join("socket")).unwrap();
    refused(sandbox.to_root(json!({})), &["a socket cannot be packed", "/socket"]);
}

/// OCI's whiteouts: unpackers would delete a file instead of creating one.
#[test]
fn whiteout_names_are_refused() {
    for (name, rewritten) in [(".wh.foo", false), ("sub/.wh..wh..opq", true)] {
        let sandbox = Sandbox::new();
        let file = sandbox.write(A, name, b"x");
        let request = if rewritten { json!({"copyToRoot": [A]}) } else { json!({"layers": [{"deps": [A]}]}) };
        refused(sandbox.build(&request, &[A]), &["whiteout", "rename the file", file.to_str().unwrap()]);
    }
    let sandbox = Sandbox::new();
    sandbox.write(A, "a.wh.b", b"x");
    sandbox.build(&json!({"copyToRoot": [A]}), &[A]).unwrap();
}

#[test]
fn only_the_content_of_directories_can_go_to_the_root() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.real(A), "file").unwrap();
    refused(
        sandbox.build(&json!({"copyToRoot": [A]}), &[A]),
        &["copyToRoot", A, "it is a file", "put it into a directory"],
    );
    sandbox.write(B, "f", b"");
    std::os::unix::fs::symlink(sandbox.real(B), sandbox.real(C)).unwrap();
    refused(sandbox.build(&json!({"layers": [{"copyToRoot": C}]}), &[C]), &[C, "it is a symlink"]);
}

#[test]
fn rules_are_refused_with_their_place() {
    let error = |perm: Value| {
        let request = json!({"layers": [{}, {"deps": A, "perms": [{"path": A}, perm]}]});
        ImageRequest::from_json(&request.to_string(), "request").unwrap_err().to_string()
    };
    let says = |perm: Value, words: &str| {
        let error = error(perm);
        assert!(error.starts_with(words), "{error}");
    };
    says(json!({"path": A, "regex": "("}), "request: layers[1].perms[1].regex \"(\" is not valid: ");
    says(
        json!({"path": A, "mode": "abc"}),
        "request: layers[1].perms[1].mode \"abc\" is not valid: expected octal digits",
    );
    says(
        json!({"path": A, "uid": -1}),
        "request: layers[1].perms[1].uid -1 is not valid: expected an id from 0 to 4294967294",
    );
    says(json!({"path": A, "gid": 4294967295u32}), "request: layers[1].perms[1].gid 4294967295 is not valid");
}

/// nix2container accepts such rules, and they change nothing.
#[test]
fn perms_for_an_absent_path_produce_a_warning() {
    let sandbox = Sandbox::new();
    let request = json!({"layers": [{"deps": A, "perms": [{"path": A}, {"path": B}]}]}).to_string();
    let info =
        PathInfo { path: A.parse().unwrap(), references: Vec::new(), nar_hash: String::new(), nar_size: 0 };
    let request = ImageRequest::from_json(&request, "request").unwrap();
    let warnings = request.plan(&Closure::new([info]), &sandbox.store).unwrap().warnings;
    let words = "layers[0].perms[1] has no effect: its layers do not contain";
    assert!(warnings.len() == 1 && warnings[0].starts_with(words) && warnings[0].contains(B), "{warnings:?}");
}

/// nix2container also packs it twice. Without the warning, the upper layer's owners would count silently.
#[test]
fn a_path_packed_twice_with_other_perms_produces_a_warning() {
    let sandbox = Sandbox::new();
    let warnings = |layers: Value| {
        let request = json!({"layers": layers}).to_string();
        let request = ImageRequest::from_json(&request, "request").unwrap();
        let info = PathInfo {
            path: A.parse().unwrap(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: 0,
        };
        request.plan(&Closure::new([info]), &sandbox.store).unwrap().warnings
    };
    let perms = json!([{"path": A, "mode": "0711"}]);
    let found = warnings(json!([{"deps": A, "perms": perms}, {"deps": A}]));
    assert!(found[0].starts_with(&format!("{A} is in the image twice, with other perms")), "{found:?}");
    assert_eq!(warnings(json!([{"deps": A, "perms": perms}, {"deps": A, "perms": perms}])), [""; 0]);
}

#[test]
fn arguments_are_checked_before_anything_is_read() {
    let sandbox = Sandbox::new();
    refused(sandbox.to_root(json!({"copyToRoot": ["/etc"]})), &["copyToRoot[0]", "/etc", "not in the store"]);
    refused(
        sandbox.to_root(json!({"copyToRoot": [format!("{A}/bin")]})),
        &["copyToRoot[0]", "nothing below it"],
    );
    refused(sandbox.to_root(json!({"layers": [{"deps": [A, "x"]}]})), &["layers[0].deps[1]"]);
    refused(sandbox.to_root(json!({"created": "now"})), &["created \"now\"", "RFC 3339"]);
    refused(sandbox.to_root(json!({"compression": "xz"})), &["xz", "none, gzip"]);
    refused(sandbox.to_root(json!({"strategy": "best"})), &["best", "min-churn, popularity"]);
    refused(sandbox.to_root(json!({"strategy": "explicit"})), &["explicit", "groups"]);
    refused(sandbox.to_root(json!({"groups": A})), &["groups must be a list of groups"]);
    refused(
        sandbox.to_root(json!({"groups": [[A], {"dpsOf": A}]})),
        &["groups[1].dpsOf", "no such predicate", "depsOf"],
    );
    refused(
        sandbox.to_root(json!({"layers": [{"deps": A, "groups": [{"not": [B, "/etc"]}]}]})),
        &["layers[0].groups[0].not[1]", "/etc"],
    );
    refused(sandbox.to_root(json!({"groups": [[B], {"depsOf": C}]})), &["group 1", C, "is not among"]);
    refused(sandbox.to_root(json!({"nmae": 1})), &["cannot have the key `nmae`; did you mean `name`?"]);
}

/// nix2container#127 and similar issues: if the store differs from the spec, the error comes before any blob is passed on.
#[test]
fn nix2container_97_127_a_layer_that_differs_from_its_spec_names_its_paths() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "f", b"one");
    sandbox.write(B, "g", b"two");
    let spec = sandbox.to_root(json!({})).unwrap();
    sandbox.write(A, "f", b"eno");
    let out = sandbox.store.real_dir.join("../layout");
    let stop = AtomicBool::new(false);
    let write = |spec: &ImageSpec| {
        layout::write(
            spec,
            &out,
            "t",
            None,
            &Packing::new(&sandbox.store, &Packer::new(2), &Control::new(&stop, &())),
        )
        .unwrap_err()
        .chain()
    };
    let message = write(&spec);
    assert!(message.contains("layer 1 no longer has the content") && message.contains(A), "{message}");
    assert!(!out.exists(), "no partial output remains");
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1, "no temporary directory is left");
}

#[test]
fn a_directory_with_other_files_is_not_written_to() {
    let sandbox = Sandbox::new();
    let spec = ImageSpec {
        version: 1,
        config: ImageConfig::default(),
        layers: Vec::new(),
        arch: "amd64".into(),
        created: None,
        annotations: Default::default(),
    };
    let out = sandbox.store.real_dir.join("mine");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("letter"), "dear").unwrap();
    let stop = AtomicBool::new(false);
    let result = layout::write(
        &spec,
        &out,
        "t",
        None,
        &Packing::new(&sandbox.store, &Packer::new(1), &Control::new(&stop, &())),
    );
    assert!(result.unwrap_err().to_string().contains("not empty and not an OCI layout"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn a_stopped_build_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write(A, "f", b"");
    let stop = AtomicBool::new(true);
    let layers =
        [LayerPath::all(&[PlannedPath { path: A.parse().unwrap(), options: None }], &sandbox.store).unwrap()];
    let result = Packer::new(1).pack(&layers, "none".parse().unwrap(), &(), &Control::new(&stop, &()));
    assert!(matches!(result, Err(Error::Interrupted)));
}

/// A repeated layer is no duplicate if a layer in between covers its files.
#[test]
fn a_repeated_layer_is_dropped_only_if_no_other_covers_it() {
    let sandbox = Sandbox::new();
    let c = "/nix/store/23456789abcdfghijklmnpqrsvwxyz01-c";
    sandbox.write(A, "etc/x", b"one");
    sandbox.write(B, "etc/x", b"two");
    sandbox.write(c, "etc/x", b"one");
    let layers = |paths: &[&str]| {
        let layers: Vec<_> = paths.iter().map(|path| json!({"copyToRoot": [path]})).collect();
        let spec = sandbox.build(&json!({"layers": layers, "arch": "amd64"}), &[A, B, c]).unwrap();
        spec.layers.iter().map(|layer| layer.paths[0].path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(layers(&[A, B, c]), [A, B, c]);
    assert_eq!(layers(&[A, c, B]), [A, B]);
}
