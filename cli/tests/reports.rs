//! Whole reports of `nixply explain` and `nixply diff`, as snapshots. `INSTA_UPDATE=always cargo test` or `cargo insta review` updates
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Returns a test store path: its hash starts with the letters before the colon.
fn path(id: &str) -> String {
    let (hash, name) = id.split_once(':').unwrap();
    let hash = format!("{hash}{}", "0".repeat(32 - hash.len()));
    format!("/nix/store/{hash}-{name}")
}

fn digest(name: &str) -> String {
    format!("sha256:{name:0>64}")
}

/// Returns a closure with sizes and references.
fn closure(infos: &[(&str, u64, &[&str])]) -> String {
    let infos = infos.iter().map(|(id, size, references)| {
        let references: Vec<String> = references.iter().map(|id| path(id)).collect();
        (path(id), json!({"narSize": size, "narHash": "", "references": references}))
    });
    Value::Object(infos.collect()).to_string()
}

/// Returns a spec of layers: digest, size and paths. A slash before a path means that it is at the root, an exclamation mark that
/// it has perms.
fn spec(config: &Value, encoding: &str, layers: &[(&str, u64, &[&str])]) -> String {
    let layers = layers.iter().map(|(name, size, paths)| {
        let paths = paths.iter().map(|id| {
            let path = path(id.trim_start_matches(['/', '!']));
            match id.chars().next() {
                Some('/') => {
                    let rewrite = json!({"regex": format!("^{path}"), "repl": ""});
                    json!({"path": path, "options": {"rewrite": rewrite}})
                }
                Some('!') => {
                    let rewrite = json!({"regex": format!("^{path}"), "repl": ""});
                    let perms = [json!({"regex": "", "mode": "0755"})];
                    json!({"path": path, "options": {"rewrite": rewrite, "perms": perms}})
                }
                _ => json!({"path": path}),
            }
        });
        let paths: Vec<Value> = paths.collect();
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{encoding}");
        let created_by = if paths.is_empty() { "ADD  rootfs.tar /" } else { "" };
        json!({
            "digest": digest(&format!("{name}{}", encoding.len())), "size": size, "diff_ids": digest(name), "paths": paths,
            "mediatype": media_type, "History": {"created_by": created_by},
        })
    });
    let layers: Vec<Value> = layers.collect();
    json!({"version": 1, "image-config": config, "layers": layers, "arch": "amd64"}).to_string()
}

/// A directory with an image before and after a security update of openssl.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let old = closure(&[
            ("aaa:glibc-2.40", 30_000_000, &[]),
            ("bbb:openssl-3.0.1", 6_000_000, &["aaa:glibc-2.40"]),
            ("ccc:zlib-1.3", 200_000, &["aaa:glibc-2.40"]),
            ("ddd:python3-3.12.1", 60_000_000, &["aaa:glibc-2.40", "bbb:openssl-3.0.1", "ccc:zlib-1.3"]),
            (
                "fff:app-1.0",
                1_000_000,
                &["ddd:python3-3.12.1", "ggg:assets", "hhh:app-1.0-doc", "fff:app-1.0"],
            ),
            ("ggg:assets", 9_000_000, &[]),
            ("hhh:app-1.0-doc", 700_000, &[]),
            ("iii:certs", 500_000, &[]),
            ("jjj:tzdata-2025a", 2_000_000, &[]),
            ("kkk:motd", 300, &[]),
        ]);
        let new = closure(&[
            ("aaa:glibc-2.40", 30_000_000, &[]),
            ("lll:openssl-3.0.2", 6_100_000, &["aaa:glibc-2.40"]),
            ("mmm:python3-3.12.1", 60_000_000, &["aaa:glibc-2.40", "lll:openssl-3.0.2", "nnn:sqlite-3.50"]),
            ("nnn:sqlite-3.50", 1_500_000, &["aaa:glibc-2.40"]),
            ("ppp:app-1.1", 900_000, &["mmm:python3-3.12.1", "ggg:assets", "ppp:app-1.1"]),
            ("ggg:assets", 9_000_000, &[]),
            ("iii:certs", 500_000, &[]),
            ("jjj:tzdata-2025a", 2_000_000, &[]),
            ("kkk:motd", 300, &[]),
        ]);
        let config = |app: &str| json!({"Entrypoint": [format!("{}/bin/app", path(app))], "Env": [format!("ZONES={}", path("jjj:tzdata-2025a"))]});
        let old_layers: [(&str, u64, &[&str]); 6] = [
            ("f0", 4_000_000, &[]),
            ("f1", 10_000_000, &["aaa:glibc-2.40"]),
            ("f2", 20_000_000, &["bbb:openssl-3.0.1", "ccc:zlib-1.3", "ddd:python3-3.12.1"]),
            ("f3", 5_000_000, &["fff:app-1.0", "ggg:assets"]),
            ("f4", 800_000, &["iii:certs", "jjj:tzdata-2025a"]),
            ("f5", 200, &["/kkk:motd"]),
        ];
        let new_layers: [(&str, u64, &[&str]); 7] = [
            ("f0", 4_000_000, &[]),
            ("f1", 10_000_000, &["aaa:glibc-2.40"]),
            ("f6", 24_000_000, &["lll:openssl-3.0.2", "mmm:python3-3.12.1", "nnn:sqlite-3.50", "ggg:assets"]),
            ("f7", 400_000, &["ppp:app-1.1"]),
            ("f8", 200_000, &["iii:certs"]),
            ("f9", 600_000, &["jjj:tzdata-2025a"]),
            ("fa", 210, &["!kkk:motd"]),
        ];
        let app = config("fff:app-1.0");
        world.write("old-closure.json", &old);
        world.write("new-closure.json", &new);
        world.write("old.json", &spec(&app, "+zstd", &old_layers));
        world.write("new.json", &spec(&config("ppp:app-1.1"), "+zstd", &new_layers));
        world.write("plain.json", &spec(&app, "", &old_layers));
        let request = json!({
            "config": {"Entrypoint": [path("fff:app-1.0")]}, "copyToRoot": path("kkk:motd"), "maxLayers": 3,
            "layers": [{"deps": [path("ggg:assets"), path("iii:certs")]}],
        });
        world.write("request.json", &request.to_string());
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// Runs the program without Nix.
    fn nixply(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env_clear().env("PATH", "/nonexistent").current_dir(self.0.path());
        command.output().unwrap()
    }

    /// Runs `explain` with the closure of the image `old`.
    fn explain(&self, arguments: &[&str]) -> Output {
        self.nixply(&[&["explain", "--closure", "old-closure.json"], arguments].concat())
    }

    fn diff(&self, arguments: &[&str]) -> Output {
        let closures = ["--old-closure", "old-closure.json", "--new-closure", "new-closure.json"];
        self.nixply(&[&["diff"], arguments, &closures].concat())
    }
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn assert_report(output: &Output, name: &str) {
    let (code, out, error) = said(output);
    assert_eq!((code, error), (Some(0), ""), "{name}");
    // Snapshots do not record a final newline.
    assert!(out.ends_with('\n'), "{name}");
    insta::assert_snapshot!(name, out);
}

#[test]
fn image_overview_matches_snapshots() {
    let world = World::new();
    assert_report(&world.explain(&["old.json"]), "image");
    assert_report(&world.explain(&["old.json", "--format", "json"]), "image-json");
    assert_report(&world.explain(&["old.json", "--format", "markdown", "--most", "3"]), "image-md");
    assert_report(&world.explain(&["request.json"]), "request");
}

#[test]
fn path_explanations_match_snapshots() {
    let world = World::new();
    assert_report(&world.explain(&["old.json", "openssl"]), "path");
    assert_report(&world.explain(&["old.json", "openssl", "--format", "json"]), "path-json");
    assert_report(&world.explain(&["old.json", "openssl", "--format", "markdown"]), "path-md");
    assert_report(&world.explain(&["old.json", "app"]), "root");
    assert_report(&world.explain(&["old.json", "app:doc"]), "ignored");
    assert_report(&world.explain(&["request.json", "assets"]), "planned");
}

#[test]
fn paths_are_found_by_name_hash_and_part() {
    let world = World::new();
    let openssl = path("bbb:openssl-3.0.1");
    let hash = openssl.rsplit('/').next().unwrap().split('-').next().unwrap();
    for text in [&*openssl, &format!("{openssl}/bin/openssl"), hash, "openssl-3.0.1", "ssl", "bbb"] {
        let output = world.explain(&["old.json", text]);
        let (code, out, error) = said(&output);
        assert_eq!((code, error), (Some(0), ""));
        assert_eq!(out.lines().next(), Some(&*openssl), "{text}");
    }
}

#[test]
fn unknown_paths_are_errors_with_similar_names() {
    let world = World::new();
    for (text, expected) in [
        (
            "a",
            "error: \"a\" matches 5 paths of old.json: app-1.0, app-1.0-doc, assets, glibc-2.40, tzdata-2025a\n\
             hint: pass more of the name, or the start of the hash\n",
        ),
        (
            "pyton",
            "error: no store path of old.json matches \"pyton\"\n\
             hint: similar names: python3-3.12.1\n",
        ),
        (
            "xxxxxxxx",
            "error: no store path of old.json matches \"xxxxxxxx\"\n\
             hint: list all paths with nixply explain old.json --most 0\n",
        ),
    ] {
        let output = world.explain(&["old.json", text]);
        let (code, out, error) = said(&output);
        assert_eq!((code, out, error), (Some(1), "", expected));
    }
}

#[test]
fn invalid_inputs_match_snapshots() {
    let world = World::new();
    world.write("text.json", "hello");
    world.write("list.json", r#"{"layer": []}"#);
    world.write("later.json", r#"{"version": 2, "layers": []}"#);
    world.write("short.json", &closure(&[("aaa:glibc-2.40", 1, &[])]));
    let mut errors = BTreeMap::new();
    for arguments in [
        &["explain", "none.json"][..],
        &["explain", "text.json"],
        &["explain", "list.json"],
        &["explain", "later.json"],
        &["explain", "old.json"],
        &["explain", "old.json", "--closure", "short.json"],
        &["explain", "old.json", "--closure", "text.json"],
        &["diff", "old.json", "request.json"],
        &["diff", "old.json", "new.json", "--new-closure", "text.json"],
    ] {
        let output = world.nixply(arguments);
        let (code, out, error) = said(&output);
        assert_eq!((code, out), (Some(1), ""), "{arguments:?}");
        errors.insert(arguments.join(" "), error.to_owned());
    }
    let text: Vec<String> =
        errors.iter().map(|(command, error)| format!("$ nixply {command}\n{error}")).collect();
    insta::assert_snapshot!("errors", text.join("\n"));
}

/// The examples of docs/reports.md are the reports of these images, with shortened hashes.
#[test]
fn documentation_shows_current_reports() {
    let world = World::new();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reports.md")).unwrap();
    for (command, output) in [
        ("nixply explain old.json openssl", world.explain(&["old.json", "openssl"])),
        ("nixply diff old.json new.json", world.diff(&["old.json", "new.json"])),
    ] {
        let (code, out, error) = said(&output);
        assert_eq!((code, error), (Some(0), ""), "{command}");
        let hash = path("bbb:openssl");
        let out = out.replace(hash.trim_end_matches("-openssl"), "/nix/store/…");
        let example = format!("```text\n$ {command}\n{out}```\n");
        assert!(page.contains(&example), "docs/reports.md must show this output:\n{example}");
    }
}

#[test]
fn image_diffs_match_snapshots() {
    let world = World::new();
    assert_report(&world.diff(&["old.json", "new.json"]), "diff");
    assert_report(&world.diff(&["old.json", "new.json", "--format", "json"]), "diff-json");
    assert_report(&world.diff(&["old.json", "new.json", "--format", "markdown"]), "diff-md");
    assert_report(&world.diff(&["old.json", "old.json"]), "same");
    assert_report(&world.diff(&["plain.json", "old.json"]), "recompressed");
    // The other direction, uncompressed, and with unknown sizes.
    assert_report(&world.nixply(&["diff", "new.json", "plain.json"]), "unknown");
}
