//! nix2container's command line, under its name and as `nixply n2c`: its unit tests' values, its messages, its exit codes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with nix2container's test data, and the program under nix2container's name.
struct Sandbox(TempDir);

const FILE: &str = "../data/layer1/file1";

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sandbox.path("data/layer1")).unwrap();
        fs::create_dir(sandbox.path("cwd")).unwrap();
        fs::write(sandbox.path("data/layer1/file1"), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(sandbox.path("data/layer1/file1"), mode).unwrap();
        symlink(env!("CARGO_BIN_EXE_nixply"), sandbox.path("nix2container")).unwrap();
        sandbox.write("graph.json", &json!([{"path": FILE, "references": [FILE]}]));
        sandbox
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

    /// Runs it; gives what it said.
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
        assert!(!self.path("cwd/out.json").exists(), "nothing half-written");
        said
    }
}

const LAYERS: &str = "layers-from-reproducible-storepaths";
const KEPT: &str = "layers-from-non-reproducible-storepaths";
/// TestNewLayers.
const DIGEST: &str = "sha256:cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e";
/// TestPerms.
const WITH_PERMS: &str = "sha256:adf74a52f9e1bcd7dab77193455fa06743b979cf5955148010e5becedba4f72d";

#[test]
fn layers_are_nix2containers() {
    let sandbox = Sandbox::new();
    let said = sandbox.ok(&[LAYERS, "out.json", "graph.json"]);
    assert_eq!(
        said,
        format!(
            "Adding 1 paths to layer (size:3072 digest:{DIGEST})\nLayers have been written to out.json\n"
        )
    );
    let layer = json!([{
        "digest": DIGEST, "size": 3072, "diff_ids": DIGEST, "paths": [{"path": FILE}],
        "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
    }]);
    assert_eq!(sandbox.read("out.json"), layer);

    sandbox.write("perms.json", &json!([{"path": FILE, "regex": ".*file1", "mode": "0641", "uid": null}]));
    sandbox.write("history.json", &json!({"created_by": "me"}));
    // Flags stand anywhere, with a space or an equals sign.
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
    assert_eq!(
        (&layers[0]["digest"], &layers[0]["History"]),
        (&json!(WITH_PERMS), &json!({"created_by": "me"}))
    );
    let perms = json!([{"regex": ".*file1", "mode": "0641", "uid": 0, "gid": 0, "uname": "", "gname": ""}]);
    assert_eq!(
        layers[0]["paths"][0]["options"],
        json!({"rewrite": {"regex": "", "repl": ""}, "perms": perms})
    );

    // What is empty is not given.
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

    // A parent leaves out what is there with the same rules; then there is no layer.
    let said = sandbox.ok(&[LAYERS, "none.json", "graph.json", "out.json"]);
    assert!(
        said.starts_with(&format!("Excluding path {FILE} because already present in a parent layer\n")),
        "{said}"
    );
    assert_eq!(sandbox.read("none.json"), json!([]));
    let said = sandbox.ok(&[LAYERS, "none.json", "graph.json", "--ignore", FILE]);
    assert!(said.starts_with(&format!("Excluding path {FILE} from layer\n")), "{said}");
    sandbox.ok(&[LAYERS, "again.json", "graph.json", "perms-out.json"]);
    assert_eq!(sandbox.read("again.json"), layer);

    sandbox.write("rewrites.json", &json!([{"path": FILE, "regex": "^.*/(file)1", "repl": "/opt/${1}2"}]));
    sandbox.ok(&[LAYERS, "moved.json", "graph.json", "--rewrites", "rewrites.json"]);
    assert_eq!(sandbox.read("moved.json")[0]["size"], 2560, "/, /opt and /opt/file2");
}

/// The second half of TestNewLayers (G4).
#[test]
fn g4_layers_are_kept_as_files() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("cwd/tars")).unwrap();
    sandbox.ok(&[KEPT, "kept.json", "graph.json", "--tar-directory", "tars"]);
    let file = format!("tars/{}.tar", &DIGEST["sha256:".len()..]);
    let layer = &sandbox.read("kept.json")[0];
    assert_eq!((&layer["digest"], &layer["layer-path"]), (&json!(DIGEST), &json!(file)));
    assert_eq!(layer["paths"], json!([{"path": FILE}]));
    assert_eq!(fs::metadata(sandbox.path("cwd").join(&file)).unwrap().len(), 3072);
    let without = sandbox.fails(&[KEPT, "gone.json", "graph.json", "--tar-directory", "gone"]);
    assert!(without.contains("--tar-directory gone"), "{without}");
}

#[test]
fn an_image_is_its_config_and_its_layers() {
    let sandbox = Sandbox::new();
    sandbox.ok(&[LAYERS, "one.json", "graph.json"]);
    sandbox.write("null.json", &Value::Null);
    sandbox.write("config.json", &json!({"entrypoint": ["/a"], "Healthcheck": {}}));
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
    assert_eq!(said.matches(&format!("Adding layer {DIGEST} from one.json")).count(), 1, "{said}");
    assert!(said.ends_with("Image has been written to base.json\n"), "{said}");
    let image = sandbox.read("base.json");
    assert_eq!(image["image-config"], json!({"Entrypoint": ["/a"]}));
    assert_eq!((&image["arch"], &image["created"]), (&json!("arm64"), &json!("2024-05-13T09:31:10Z")));
    assert_eq!(image["layers"], sandbox.read("one.json"));
    let said = sandbox.ok(&["image", "top.json", "config.json", "null.json", "--from-image", "base.json"]);
    assert!(said.contains("Using base image base.json containing 1 layers"), "{said}");
    let image = sandbox.read("top.json");
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    assert_eq!(image["created"], "0001-01-01T00:00:00Z");
}

#[test]
fn what_is_wrong_is_told_with_exit_code_1() {
    let sandbox = Sandbox::new();
    sandbox.write("object.json", &json!({}));
    for (arguments, words) in [
        (vec![LAYERS, "out.json", "gone.json"], "gone.json"),
        (vec![LAYERS, "out.json"], "CLOSURE-GRAPH.json"),
        (vec![LAYERS, "out.json", "graph.json", "--max-layers", "0"], "--max-layers is 0"),
        (vec![LAYERS, "out.json", "graph.json", "--max-layers", ""], "--max-layers"),
        (
            vec![LAYERS, "out.json", "graph.json", "--perms", "object.json"],
            "object.json must be a list, not an object",
        ),
        (vec!["image", "out.json", "config.json"], "LAYERS.json"),
        (vec!["image", "out.json", "graph.json", "graph.json", "--created", "now"], "RFC 3339"),
        (vec!["images"], "images"),
    ] {
        let said = sandbox.fails(&arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    // nix2container panics.
    sandbox.write("perms.json", &json!([{"path": FILE, "regex": ""}, {"path": FILE, "regex": "("}]));
    let said = sandbox.fails(&[LAYERS, "out.json", "graph.json", "--perms", "perms.json"]);
    assert!(said.starts_with("error: perms[1].regex \"(\" is not valid"), "{said}");
    fs::remove_file(sandbox.path("data/layer1/file1")).unwrap();
    let said = sandbox.fails(&[LAYERS, "out.json", "graph.json"]);
    assert!(said.contains(FILE), "{said}");
}

#[test]
fn the_same_commands_are_nixplys_own() {
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
