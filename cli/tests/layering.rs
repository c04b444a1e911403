//! `--strategy` and `--max-layers` of `nixply plan` and `nixply build`, which override the request's.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 4] = ["app", "big", "lib", "tool"];

fn path(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

/// Makes a directory with a request for an image of `app`, with `tool` in its own layer, and their closure: `app` needs `big` and
/// `lib`, `big` needs `lib`.
fn world() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let info = |name: &str, size: u64, references: &[&str]| {
        let references: Vec<_> = references.iter().map(|name| path(name)).collect();
        json!({"path": path(name), "narSize": size, "references": references})
    };
    let closure = json!([
        info("app", 1, &["big", "lib"]),
        info("big", 1 << 20, &["lib"]),
        info("lib", 1 << 10, &[]),
        info("tool", 1, &[])
    ]);
    fs::write(directory.path().join("closure.json"), closure.to_string()).unwrap();
    for name in NAMES {
        let real = directory.path().join("store").join(path(name).rsplit('/').next().unwrap());
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join(name), name).unwrap();
    }
    let request = json!({
        "arch": "amd64", "copyToRoot": path("app"), "maxLayers": 2, "groups": [path("app")],
        "layers": [{"deps": path("tool"), "strategy": "single"}],
    });
    fs::write(directory.path().join("request.json"), request.to_string()).unwrap();
    directory
}

fn nixply(directory: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command.current_dir(directory.path()).output().unwrap()
}

/// Returns the names of the layers' paths.
fn layers(output: &Output, of: impl Fn(&Value) -> Value) -> Vec<String> {
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{output:?}");
    let layers = of(&serde_json::from_slice(&output.stdout).unwrap());
    let name = |path: &Value| {
        let path = path.as_str().or(path["path"].as_str()).unwrap();
        path.rsplit('-').next().unwrap().to_owned()
    };
    let names = |layer: &Value| layer.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ");
    layers.as_array().unwrap().iter().map(|layer| names(&layer["paths"])).collect()
}

#[test]
fn layering_flags_override_the_request() {
    let world = world();
    for (flags, expected) in [
        (&[][..], &["tool", "app", "lib big"][..]),
        (&["--max-layers", "9"], &["tool", "app", "lib big"]),
        (&["--strategy", "popularity"], &["tool", "lib", "big app"]),
        (&["--strategy", "popularity", "--max-layers", "3"], &["tool", "lib", "big", "app"]),
        (&["--strategy", "single", "--max-layers", "3"], &["tool", "lib big app"]),
    ] {
        let input = [&["request.json", "--closure", "closure.json"], flags].concat();
        let plan = nixply(&world, &[&["plan", "--json"], &input[..]].concat());
        assert_eq!(layers(&plan, Value::clone), expected, "{flags:?}");
        let build = ["build", "--quiet", "--no-cache", "--real-store-dir", "store"];
        let built = nixply(&world, &[&build, &input[..]].concat());
        assert_eq!(layers(&built, |spec| spec["layers"].clone()), expected, "{flags:?}");
    }
    let input = ["plan", "request.json", "--closure", "closure.json", "--strategy", "per-path"];
    let error = String::from_utf8(nixply(&world, &input).stderr).unwrap();
    assert!(error.contains("strategy per-path makes 3 layers, but maxLayers is 2"), "{error}");
}

#[test]
fn invalid_layering_values_list_the_valid_ones() {
    let world = world();
    for command in ["plan", "build"] {
        for (flag, value, words) in [
            ("--strategy", "niply", "[possible values: min-churn, popularity, auto-layer, size, "),
            ("--strategy", "explicit", "possible values: min-churn, popularity"),
            ("--max-layers", "0", "expected a whole number from 1 to 1000000"),
            ("--max-layers", "many", "expected a whole number from 1 to 1000000"),
        ] {
            let output = nixply(&world, &[command, "request.json", flag, value]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains(&format!("'{value}' for '{flag} <")), "{error}");
            assert!(error.contains(words), "{words:?} is not in the message: {error}");
            assert_eq!(output.status.code(), Some(2), "{error}");
        }
    }
}
