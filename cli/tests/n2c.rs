//! nix2container's command line, under its name and as `nixply n2c`: files, messages and exit codes. The digests of its unit tests,
//! whose paths are not in a store, are in packer/tests/golden.rs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with a store, and the program under nix2container's name.
struct Sandbox(TempDir);

/// The store path: an empty file.
const BASE: &str = "0123456789abcdfghijklmnpqrsvwxyz-file1";

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        fs::create_dir(sandbox.path("store")).unwrap();
        fs::create_dir(sandbox.path("cwd")).unwrap();
        fs::write(sandbox.file(), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(sandbox.file(), mode).unwrap();
        symlink(env!("CARGO_BIN_EXE_nixply"), sandbox.path("nix2container")).unwrap();
        let file = sandbox.file();
        sandbox.write("graph.json", &json!([{"path": file, "references": [file]}]));
        sandbox
    }

    /// Returns the store path.
    fn file(&self) -> String {
        self.path("store").join(BASE).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path("cwd").join(name), value.to_string()).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path("cwd").join(name)).unwrap()).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.path("nix2container"))
            .args(arguments)
            .current_dir(self.path("cwd"))
            .output()
            .unwrap()
    }

    /// Runs a command and returns standard error.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert_eq!(output.stdout, b"");
        said
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(!self.path("cwd/out.json").exists(), "no partial output remains");
        said
    }
}

const LAYERS: &str = "layers-from-reproducible-storepaths";
const KEPT: &str = "layers-from-non-reproducible-storepaths";

#[test]
fn layers_equal_those_of_nix2container() {
    let sandbox = Sandbox::new();
    let file = &*sandbox.file();
    let said = sandbox.ok(&[LAYERS, "out.json", "graph.json"]);
    let digest = sandbox.read("out.json")[0]["digest"].as_str().unwrap().to_owned();
    let size = sandbox.read("out.json")[0]["size"].as_u64().unwrap();
    assert_eq!(
        said,
        format!(
            "Adding 1 paths to layer (size:{size} digest:{digest})\nLayers have been written to out.json\n"
        )
    );
    let layer = json!([{
        "digest": digest, "size": size, "diff_ids": digest, "paths": [{"path": file}],
        "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
    }]);
    assert_eq!(sandbox.read("out.json"), layer);

    sandbox.write(
        "perms.json",
        &json!([{"path": file, "regex": ".*file1", "mode": "0641", "uid": null, "note": "x"}]),
    );
    sandbox.write("history.json", &json!({"created_by": "me"}));
    // Flags can be anywhere, with a space or an equals sign.
    sandbox.ok(&[
        "--debug",
        LAYERS,
        "--perms=perms.json",
        "perms-out.json",
        "graph.json",
        "--history",
        "history.json",
        "--max-layers",
        "7",
    ]);
    let layers = sandbox.read("perms-out.json");
    assert_eq!(layers[0]["History"], json!({"created_by": "me"}));
    assert_ne!(layers[0]["digest"], digest, "another mode changes the digest");
    let perms = json!([{"regex": ".*file1", "mode": "0641", "uid": 0, "gid": 0, "uname": "", "gname": ""}]);
    assert_eq!(
        layers[0]["paths"][0]["options"],
        json!({"rewrite": {"regex": "", "repl": ""}, "perms": perms})
    );

    // Empty values count as absent.
    sandbox.ok(&[
        LAYERS,
        "empty.json",
        "graph.json",
        "--perms",
        "",
        "--rewrites=",
        "--history",
        "",
        "--ignore",
        "",
    ]);
    assert_eq!(sandbox.read("empty.json"), layer);

    // Paths that a parent layer has with the same rules are excluded. No path is left, so there is no layer.
    let said = sandbox.ok(&[LAYERS, "none.json", "graph.json", "out.json"]);
    assert!(
        said.starts_with(&format!("Excluding path {file} because already present in a parent layer\n")),
        "{said}"
    );
    assert_eq!(sandbox.read("none.json"), json!([]));
    let said = sandbox.ok(&[LAYERS, "none.json", "graph.json", "--ignore", file]);
    assert!(said.starts_with(&format!("Excluding path {file} from layer\n")), "{said}");
    sandbox.ok(&[LAYERS, "again.json", "graph.json", "perms-out.json"]);
    assert_eq!(sandbox.read("again.json"), layer);

    sandbox.write("rewrites.json", &json!([{"path": file, "regex": "^.*-(file)1", "repl": "/opt/${1}2"}]));
    sandbox.ok(&[LAYERS, "moved.json", "graph.json", "--rewrites", "rewrites.json"]);
    assert_eq!(sandbox.read("moved.json")[0]["size"], 2560, "entries for /, /opt and /opt/file2");
}

/// The second half of nix2container's TestNewLayers.
#[test]
fn tar_directory_keeps_layer_files() {
    let sandbox = Sandbox::new();
    sandbox.ok(&[LAYERS, "plain.json", "graph.json"]);
    let digest = sandbox.read("plain.json")[0]["digest"].as_str().unwrap().to_owned();
    fs::create_dir(sandbox.path("cwd/tars")).unwrap();
    sandbox.ok(&[KEPT, "kept.json", "graph.json", "--tar-directory", "tars"]);
    let file = format!("tars/{}.tar", &digest["sha256:".len()..]);
    let layer = &sandbox.read("kept.json")[0];
    assert_eq!((&layer["digest"], &layer["layer-path"]), (&json!(digest), &json!(file)));
    assert_eq!(layer["paths"], json!([{"path": sandbox.file()}]));
    assert_eq!(fs::metadata(sandbox.path("cwd").join(&file)).unwrap().len(), layer["size"].as_u64().unwrap());
    let without = sandbox.fails(&[KEPT, "gone.json", "graph.json", "--tar-directory", "kept.json"]);
    assert!(without.contains("--tar-directory kept.json is not a directory"), "{without}");
    let without = sandbox.fails(&[KEPT, "gone.json", "graph.json", "--tar-directory", "gone"]);
    assert!(without.contains("--tar-directory gone"), "{without}");
}

#[test]
fn image_has_config_and_layers() {
    let sandbox = Sandbox::new();
    sandbox.ok(&[LAYERS, "one.json", "graph.json"]);
    let digest = &sandbox.read("one.json")[0]["digest"];
    sandbox.write("null.json", &Value::Null);
    let config =
        json!({"entrypoint": ["/a"], "Healthcheck": {}, "Env": ["a"], "exposedPorts": {"80/foo": {}}});
    sandbox.write("config.json", &config);
    let said = sandbox.ok(&[
        "image",
        "base.json",
        "config.json",
        "null.json",
        "one.json",
        "one.json",
        "--arch",
        "arm64",
        "--created",
        "2024-05-13T09:31:10Z",
    ]);
    assert_eq!(
        said.matches(&format!("Adding layer {} from one.json", digest.as_str().unwrap())).count(),
        1,
        "{said}"
    );
    assert!(said.ends_with("Image has been written to base.json\n"), "{said}");
    let image = sandbox.read("base.json");
    for warning in ["config.Env[0] \"a\" is not NAME=value", "config.ExposedPorts \"80/foo\" is not a port"] {
        assert!(said.contains(&format!("warning: {warning}")), "{said}");
    }
    let config = json!({"ExposedPorts": {"80/foo": {}}, "Env": ["a"], "Entrypoint": ["/a"]});
    assert_eq!(image["image-config"], config, "the config is nix2container's, despite the warnings");
    assert_eq!((&image["arch"], &image["created"]), (&json!("arm64"), &json!("2024-05-13T09:31:10Z")));
    assert_eq!(image["layers"], sandbox.read("one.json"));
    let said = sandbox.ok(&["image", "top.json", "config.json", "null.json", "--from-image", "base.json"]);
    assert!(said.contains("Using base image base.json containing 1 layers"), "{said}");
    let image = sandbox.read("top.json");
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    assert_eq!(image["created"], "0001-01-01T00:00:00Z");
}

#[test]
fn n2c_errors_exit_with_1() {
    let sandbox = Sandbox::new();
    sandbox.write("object.json", &json!({}));
    sandbox.write("empty.json", &json!([]));
    let file = sandbox.file();
    for (arguments, words) in [
        (vec![LAYERS, "out.json", "gone.json"], "gone.json"),
        (vec![LAYERS, "out.json"], "CLOSURE-GRAPH.json"),
        (
            vec![LAYERS, "out.json", "graph.json", "--max-layers", "0"],
            "--max-layers must be at least 1, got 0",
        ),
        (vec![LAYERS, "out.json", "graph.json", "--max-layers", ""], "--max-layers"),
        (
            vec![LAYERS, "out.json", "graph.json", "--perms", "object.json"],
            "object.json must be a list, not an object",
        ),
        (
            vec![LAYERS, "out.json", "graph.json", "--perms", "gone.json"],
            "error: --perms: cannot read gone.json: No such file or directory",
        ),
        (
            vec!["image", "out.json", "object.json", "empty.json", "--from-image", "gone.json"],
            "error: --from-image: cannot read gone.json: No such file or directory",
        ),
        (
            vec!["image-from-dir", "out.json", "gone"],
            "error: cannot read the image's manifest: gone/manifest.json: No such",
        ),
        (
            vec!["image-from-manifest", "out.json", "gone.json", "object.json"],
            "error: cannot read the image's manifest: gone.json: No such",
        ),
        (vec!["image", "out.json", "config.json"], "LAYERS.json"),
        (vec!["image", "out.json", "graph.json", "graph.json", "--created", "now"], "RFC 3339"),
        (vec!["images"], "images"),
    ] {
        let said = sandbox.fails(&arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    // nix2container panics on an invalid regex.
    sandbox.write("perms.json", &json!([{"path": file, "regex": ""}, {"path": file, "regex": "("}]));
    let said = sandbox.fails(&[LAYERS, "out.json", "graph.json", "--perms", "perms.json"]);
    assert_eq!(said, "error: perms[1].regex \"(\" is not valid: unclosed group\n");
    fs::remove_file(&file).unwrap();
    let said = sandbox.fails(&[LAYERS, "out.json", "graph.json"]);
    assert!(said.contains(&file), "{said}");
}

/// The entries of a closure name the files to pack, so they are checked before anything is read.
#[test]
fn closures_of_several_stores_are_errors() {
    let sandbox = Sandbox::new();
    let file = sandbox.file();
    let other = format!("/nix/store/{BASE}");
    let hash = format!("sha256:{}", "0".repeat(63));
    for (entry, why) in [
        (
            json!({"path": "/etc/passwd"}),
            "entry 1: store path \"/etc/passwd\" is not valid: it is not in the store ",
        ),
        (
            json!({"path": "../data/layer1/file1"}),
            "store path \"../data/layer1/file1\" is not valid: it is not in the store ",
        ),
        (
            json!({"path": format!("{file}/../../x")}),
            "is not valid: expected a 32-character hash, a dash and a name",
        ),
        (
            json!({"path": format!("{file}\0")}),
            "is not valid: expected a 32-character hash, a dash and a name",
        ),
        (json!({"path": other}), "is not valid: it is not in the store "),
        (json!({"path": file, "narHash": hash}), "narHash is not valid: expected a SHA-256"),
        (json!({"path": file, "references": ["/etc/passwd"]}), "references[0]: store path \"/etc/passwd\""),
    ] {
        sandbox.write("bad.json", &json!([{"path": file}, entry]));
        for verb in [LAYERS, KEPT] {
            let said = sandbox.fails(&[verb, "out.json", "bad.json"]);
            assert!(said.starts_with("error: bad.json, entry 1") && said.contains(why), "{said}");
        }
    }
    sandbox.write("bad.json", &json!([{"path": "relative"}]));
    let said = sandbox.fails(&[LAYERS, "out.json", "bad.json"]);
    assert!(said.starts_with("error: bad.json, entry 0: store path \"relative\""), "{said}");
    let twice = format!(r#"{{"{file}": {{}}, "{file}": {{}}}}"#);
    fs::write(sandbox.path("cwd/bad.json"), twice).unwrap();
    assert!(sandbox.fails(&[LAYERS, "out.json", "bad.json"]).contains("occurs twice"));
}

#[test]
fn n2c_subcommands_match_the_nix2container_program() {
    let sandbox = Sandbox::new();
    sandbox.ok(&[LAYERS, "theirs.json", "graph.json"]);
    let mut own = Command::new(env!("CARGO_BIN_EXE_nixply"));
    own.args(["n2c", LAYERS, "ours.json", "graph.json"]).current_dir(sandbox.path("cwd"));
    assert!(own.output().unwrap().status.success());
    assert_eq!(sandbox.read("ours.json"), sandbox.read("theirs.json"));
    let nothing = sandbox.run(&[]);
    assert!(nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("image-from-dir"));
    let help = sandbox.run(&["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("image-from-manifest"));
    assert!(Path::new(env!("CARGO_BIN_EXE_nixply")).exists());
}
