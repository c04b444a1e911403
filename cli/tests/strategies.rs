//! Whole reports of `nixply strategies`, as snapshots. `INSTA_UPDATE=always cargo test` or `cargo insta review` updates them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Releases of two images: an application changes, then the library that both use.
const HISTORY: &str = r#"{"format":"nixply-history","version":1,"about":"Two images.","images":{"api":["app"],"tool":["tool"]},
"releases":[
{"name":"2026-01-05","set":{"lib":{"source":"lib","version":"1","size":100000000,"references":[]},
 "app":{"source":"app","version":"1","size":10000000,"references":["lib"]},
 "data":{"source":"data","version":"1","size":40000000,"references":[]},
 "tool":{"source":"tool","version":"1","size":20000000,"references":["data","lib"]}}},
{"name":"2026-01-12","set":{"app":{"source":"app","version":"2","size":12000000,"references":["lib"]}}},
{"name":"2026-01-19","set":{"lib":{"source":"lib","version":"2","size":101000000,"references":[]}}},
{"name":"2026-01-26","set":{"app":{"source":"app","version":"3","size":12000000,"references":["lib"]}}}]}"#;

/// Returns a closure as `nix path-info --json --recursive` prints it.
fn closure(version: u64) -> String {
    let path = |number: u64, name: &str| format!("/nix/store/{number:0>32}-{name}");
    let (app, library) = (path(version, "app"), path(0, "library"));
    format!(
        r#"{{"{app}":{{"references":["{library}"],"narSize":{},"narHash":""}},
            "{library}":{{"references":[],"narSize":5000000,"narHash":""}}}}"#,
        1_000_000 + version
    )
}

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        world.write("two.json", HISTORY);
        world.write("one.json", &closure(1));
        for release in [1, 2, 10] {
            world.write(&format!("releases/{release}.json"), &closure(release));
        }
        world
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program without Nix.
    fn study(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.arg("strategies").args(arguments).env_clear().env("PATH", "/nonexistent");
        command.current_dir(self.0.path()).output().unwrap()
    }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Replaces the times in the last column, which vary, by zeros.
fn timeless(text: &str) -> String {
    let lines = text.lines().map(|line| {
        match line.rsplit_once(' ').map(|(begin, end)| (begin.rsplit_once(' '), end)) {
            Some((Some((begin, number)), "s")) if number.parse::<f64>().is_ok() => {
                format!("{begin} 0.00 s\n")
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

fn assert_report(output: &Output, name: &str) {
    let (code, out, error) = said(output);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{name}");
    let out = timeless(&out);
    // Snapshots do not record a final newline.
    assert!(out.ends_with('\n'), "{name}");
    insta::assert_snapshot!(name, out);
}

#[test]
fn strategy_reports_match_snapshots() {
    let world = World::new();
    assert_report(&world.study(&["two.json", "--max-layers", "2,3"]), "strategies");
    let some = ["two.json", "--strategy", "single", "--strategy", "nixply+fleet", "--max-layers", "2"];
    let study = |arguments: &[&str]| world.study(&[&some[..], arguments].concat());
    assert_report(
        &study(&["--no-propagation", "--releases", "2026-01-12..", "--warm-up", "1"]),
        "strategies-some",
    );
    assert_report(&study(&["--compression", "zstd:9"]), "strategies-compressed");
    assert_report(&world.study(&["releases", "one.json", "--strategy", "size"]), "strategies-closures");
}

#[test]
fn json_and_html_have_the_same_numbers() {
    let world = World::new();
    let study = |arguments: &[&str]| {
        let output = world.study(&[&["two.json", "--max-layers", "2"], arguments].concat());
        let (code, out, error) = said(&output);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        out
    };
    let json: Value = serde_json::from_str(&study(&["--format", "json"])).unwrap();
    assert_eq!((&json["version"], &json["propagation"]), (&1.into(), &true.into()));
    let history = &json["histories"][0];
    assert_eq!(history["floor"]["series"]["pushed"].as_array().unwrap().len(), 4);
    let strategies = history["limits"][0]["strategies"].as_array().unwrap();
    assert_eq!(strategies.len(), 5);
    assert_eq!(
        strategies[4]["layers"].as_array().unwrap().len(),
        strategies[4]["layerCount"].as_u64().unwrap() as usize
    );
    let mean = strategies[4]["pushed"]["mean"].as_u64().unwrap();

    assert_eq!(study(&["--format", "html", "-o", "page.html"]), "");
    let page = fs::read_to_string(world.at("page.html")).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains(&format!("<data value=\"{mean}\">")),
        "{mean}"
    );
    assert!(!page.contains("http"));
}

#[test]
fn synthetic_histories_are_reproducible() {
    let world = World::new();
    let spec = "seed=7,packages=60,images=2,roots=5,releases=5";
    let once = || world.study(&["--synthetic", spec, "--strategy", "size", "--strategy", "nixply"]);
    let (first, second) = (said(&once()), said(&once()));
    assert_eq!(first.0, Some(0), "{}", first.2);
    assert_eq!(timeless(&first.1), timeless(&second.1));
    assert!(first.1.starts_with("synthetic-7: "), "{}", first.1);
}

#[test]
fn strategies_usage_errors_name_the_argument() {
    let world = World::new();
    world.write("empty/README.md", "");
    for (arguments, expected) in [
        (&["none.json"][..], "error: cannot read none.json: No such file or directory (os error 2)\n"),
        (
            &["empty"],
            "error: empty: it has no closures: expected a file RELEASE.json for each release (nix path-info --json \
             --recursive), or a directory for each with a file IMAGE.json for each image\n",
        ),
        (
            &["two.json", "--releases", "2026-02-02.."],
            "error: history two: it has no release \"2026-02-02\": it begins with 2026-01-05 and ends with 2026-01-26\n",
        ),
        (
            &["two.json", "--warm-up", "3"],
            "error: history two: it has 4 releases, and none is left after the first and a warm-up of 3\n",
        ),
        (
            &["one.json", "--no-propagation"],
            "error: one.json: its store paths have Nix's hashes: a study without propagation needs a nixply-history\n",
        ),
        (
            &["one.json", "--releases", "1..2"],
            "error: --releases needs a history, but one is a single closure: omit one of them\n",
        ),
        (
            &["--synthetic", "packages=3"],
            "error: synthetic history: it needs at least 20 packages, 1 image and 1 release\n",
        ),
    ] {
        let (code, out, error) = said(&world.study(arguments));
        assert_eq!((code, out.as_str(), error.as_str()), (Some(1), "", expected), "{arguments:?}");
    }
    for (arguments, expected) in [
        (
            &["two.json", "--strategy", "best"][..],
            "invalid value 'best' for '--strategy <NAME>': expected one of min-churn, popularity, ",
        ),
        (&["two.json", "--releases", "x"], "expected two names separated by two dots"),
        (&["two.json", "--max-layers", "0"], "expected a whole number from 1 to 65535"),
        (&[], "the following required arguments were not provided"),
    ] {
        let (code, out, error) = said(&world.study(arguments));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}
