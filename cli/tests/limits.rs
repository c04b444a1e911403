//! Resource limits: if threads, memory, open files or the size of a file run out, the program is slower or exits with one line and
//! code 2. Also untrusted closures: the program reads only store paths.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A user that runs no processes, so that a limit on processes counts only those of the test.
const NOBODY: &str = "54321";

/// A store of a few paths, a request for them with several layers, and a copy of the program that every user can run.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(world.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_nixply"), world.at("nixply")).unwrap();
        let paths: Vec<String> = (0..12).map(path).collect();
        for (number, path) in paths.iter().enumerate() {
            let directory = world.at("store").join(path.rsplit('/').next().unwrap());
            fs::create_dir_all(directory.join("bin")).unwrap();
            fs::write(directory.join("bin/data"), vec![b'a' + number as u8; 700_000 * (number % 3 + 1)])
                .unwrap();
            fs::write(directory.join("z"), "last").unwrap();
        }
        world.write("closure.json", &closure());
        let request = json!({
            "arch": "amd64", "compression": "zstd:1", "maxLayers": 4, "config": {"Cmd": [format!("{}/bin/data", paths[0])]},
        });
        world.write("request.json", &request);
        let plain =
            json!({"arch": "amd64", "maxLayers": 9, "config": {"Cmd": [format!("{}/bin/data", paths[0])]}});
        world.write("plain.json", &plain);
        world.write("fleet.json", &json!({"a": request, "b": plain}));
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.at(name), value.to_string()).unwrap();
    }

    /// Runs the program, directly or through another one that sets limits.
    fn nixply(&self, before: &[&str], arguments: &[&str]) -> Output {
        let words: Vec<&str> = before.iter().chain(&["./nixply"]).chain(arguments).copied().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.0.path()).env_remove("RUST_BACKTRACE");
        command.env("HOME", self.0.path()).env("LC_ALL", "C").env_remove("NIXPLY_CACHE_DIR");
        command.output().unwrap()
    }
}

fn path(number: usize) -> String {
    format!("/nix/store/{}-p{number}", format!("{number:02}").repeat(16))
}

fn closure() -> Value {
    let hash = format!("sha256:{}", "0".repeat(64));
    let info = |number: usize| {
        let references: Vec<String> = (number + 1..12).step_by(2).map(path).collect();
        json!({"path": path(number), "narHash": hash, "narSize": 1000 << number, "references": references})
    };
    (0..12).map(info).collect()
}

const IN: [&str; 5] = ["--closure", "closure.json", "--real-store-dir", "store", "--no-cache"];

/// Commands to run at each limit.
fn commands() -> Vec<Vec<&'static str>> {
    let build = |request| [&["build", "-q", "-j", "2", request][..], &IN].concat();
    let plan = |flags: &[&'static str]| [&["plan"][..], flags, &IN[..2]].concat();
    vec![
        build("request.json"),
        build("plain.json"),
        [&["build", "-q", "-j", "16", "request.json"][..], &IN].concat(),
        plan(&["request.json"]),
        plan(&["fleet.json", "--images"]),
        plan(&["request.json", "--strategy", "auto-layer"]),
        [&["explain", "request.json"][..], &IN[..2]].concat(),
        vec!["strategies", "-q", "--synthetic", "seed=1,packages=30,images=2,roots=3,releases=3"],
        vec!["inspect", "image.json"],
        vec![
            "diff",
            "image.json",
            "image.json",
            "--old-closure",
            "closure.json",
            "--new-closure",
            "closure.json",
        ],
        vec!["--version"],
    ]
}

/// Asserts the result without limits, or exit code 2 and one line. Returns whether it was a success.
fn fine_or_told(output: &Output, expected: &Output, what: &str) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            // The table of strategies contains times.
            let same = what.contains("strategies") || output.stdout == expected.stdout;
            assert!(same, "{what}");
            true
        }
        Some(2) => {
            // The C library has its own message if it cannot set up a thread, and another thread may fail at the same time.
            let (library, own): (Vec<&str>, Vec<&str>) =
                stderr.trim_end().lines().partition(|line| line.starts_with("Fatal glibc error: "));
            let is_one = own.len() == 1 || (own.is_empty() && !library.is_empty());
            assert!(is_one && own.iter().all(|line| line.starts_with("error: ")), "{what}: {stderr}");
            false
        }
        code => panic!("{what}: exit code {code:?}, {:?}: {stderr}", output.status),
    }
}

/// Runs all commands at each limit. Returns the number of successes.
fn at_limits(world: &World, limits: &[Vec<&str>]) -> usize {
    fs::write(world.at("image.json"), world.nixply(&[], &commands()[0]).stdout).unwrap();
    let mut fine = 0;
    for arguments in commands() {
        let expected = world.nixply(&[], &arguments);
        assert_eq!(
            expected.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&expected.stderr)
        );
        for limit in limits {
            // If the program cannot even be started, the kernel and the dynamic linker have other exit codes.
            if world.nixply(limit, &["--version"]).status.code() != Some(0) {
                continue;
            }
            let output = world.nixply(limit, &arguments);
            fine += usize::from(fine_or_told(&output, &expected, &format!("{limit:?} {arguments:?}")));
        }
    }
    fine
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become a user without processes");
    }
    root
}

/// Regression: `std::thread::scope`'s `spawn` panics if no thread is available (exit code 101), and a failure of rayon's pool
/// counted as an error of the user (exit code 1).
#[test]
fn packing_works_with_fewer_threads_than_requested() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let counts: Vec<String> = (1..=10).map(|count| format!("--nproc={count}")).collect();
    let limit = |count: &'static str| vec!["setpriv", "--reuid", NOBODY, "--clear-groups", "prlimit", count];
    let limits: Vec<Vec<&str>> = counts.iter().map(|count| limit(count.clone().leak())).collect();
    let fine = at_limits(&world, &limits);
    assert_eq!(fine, commands().len() * limits.len(), "one thread is enough for every command");
}

#[test]
fn too_few_open_files_are_an_error_of_the_machine() {
    let world = World::new();
    let counts: Vec<String> = [5, 8, 12, 16, 20, 24, 32, 40].map(|count| format!("--nofile={count}")).into();
    let limits: Vec<Vec<&str>> = counts.iter().map(|count| vec!["prlimit", count]).collect();
    at_limits(&world, &limits);
    let expected = world.nixply(&[], &commands()[0]);
    let output = world.nixply(&["prlimit", "--nofile=32"], &commands()[0]);
    assert!(fine_or_told(&output, &expected, "32 files"));
}

#[test]
fn too_little_memory_is_an_error_of_the_machine() {
    let world = World::new();
    let megabytes = [30, 40, 50, 60, 70, 80, 100, 120, 150, 200, 300];
    let sizes: Vec<String> = megabytes.iter().map(|size| format!("--as={size}000000")).collect();
    let limits: Vec<Vec<&str>> = sizes.iter().map(|size| vec!["prlimit", size]).collect();
    at_limits(&world, &limits);
}

#[test]
fn small_stacks_suffice() {
    let world = World::new();
    let limits: Vec<Vec<&str>> =
        ["64", "128", "256", "1024"].map(|size| vec!["sh", "-c", "ulimit -s $0; exec \"$@\"", size]).into();
    let fine = at_limits(&world, &limits);
    assert_eq!(fine, commands().len() * limits.len());
}

/// Regression: the signal SIGXFSZ ended the program.
#[test]
fn file_size_limit_is_an_error_and_leaves_no_file() {
    let world = World::new();
    let build = [&commands()[0][..], &["-o", "out.json"]].concat();
    let output = world.nixply(&["prlimit", "--fsize=100"], &build);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: cannot write") && stderr.contains("File too large"), "{stderr}");
    let left = fs::read_dir(world.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        left.filter(|name| name == "out.json" || name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
    // The limit also stops the blobs of a layout.
    fs::write(world.at("image.json"), world.nixply(&[], &commands()[0]).stdout).unwrap();
    let layout = ["layout", "-q", "image.json", "layout", "--real-store-dir", "store", "--no-cache"];
    let output = world.nixply(&["prlimit", "--fsize=300"], &layout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("File too large") && stderr.trim_end().lines().count() == 1, "{stderr}");
    assert!(!world.at("layout").exists());
}

/// A cache that cannot be written only makes the next build slower.
#[test]
fn file_size_limit_disables_the_cache() {
    let world = World::new();
    let expected = world.nixply(&[], &commands()[0]);
    let build = ["build", "-q", "request.json", "--closure", "closure.json", "--real-store-dir", "store"];
    let build = [&build[..], &["--cache-dir", "cache"]].concat();
    for size in ["--fsize=1", "--fsize=200", "--fsize=5000"] {
        let output = world.nixply(&["prlimit", size], &build);
        // The limit does not apply to the spec: standard output is a pipe here.
        assert!(fine_or_told(&output, &expected, size));
    }
    assert!(fine_or_told(&world.nixply(&[], &build), &expected, "without limits"));
}

/// Regression: `outside` was packed under the closure's name for it, and its content was readable for all users in the cache.
#[test]
fn closures_with_paths_outside_the_store_are_errors_before_reading() {
    let world = World::new();
    fs::write(world.at("outside"), "the content of a file outside").unwrap();
    let outside = world.at("outside").display().to_string();
    let bad = |change: &dyn Fn(&mut Value)| {
        let mut closure = closure();
        change(&mut closure);
        world.write("bad.json", &closure);
    };
    let refused = |words: &str| {
        for command in ["build", "plan", "explain"] {
            let mut arguments = vec![command, "request.json", "--closure", "bad.json"];
            if command == "build" {
                arguments.extend(["-q", "--cache-dir", "cache", "-o", "o.json", "--real-store-dir", "store"]);
            }
            let output = world.nixply(&[], &arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{command}: {stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains(words), "{command}: {stderr}");
            let lines = stderr.lines().filter(|line| !line.starts_with("hint: "));
            assert!(lines.count() == 1 && !stderr.contains('\u{1b}'), "{stderr:?}");
        }
        assert!(!world.at("o.json").exists() && !has_files(&world.at("cache")));
    };
    let entry = |path: &str| json!({"path": path, "narHash": "", "narSize": 1, "references": []});
    let long = format!("{}{}", path(3), "x".repeat(300));
    let names = [
        (outside.as_str(), "it is not in the store /nix/store"),
        ("/etc/shadow", "store path \"/etc/shadow\" is not valid"),
        ("/nix/store/../../etc/shadow", "\"/nix/store/../../etc/shadow\""),
        ("/nix/store", "is not in the store"),
        ("relative", "store path \"relative\""),
        (&format!("{}/bin", path(3)), "nothing below it"),
        (&format!("{}\n\u{1b}[31m", path(3)), "\\n\\u{1b}[31m"),
        (&format!("{}\0", path(3)), "\\0"),
        (&path(3).replace("/nix/store", "/nix/Store"), "is not in the store"),
        (&path(3).replace('0', "e"), "32-character hash"),
        (&long, "Nix allows 211"),
    ];
    for (name, words) in names {
        // As an entry that a path refers to, as an independent entry, and only as a reference.
        bad(&|closure| {
            closure[0]["references"].as_array_mut().unwrap().push(name.into());
            closure.as_array_mut().unwrap().push(entry(name));
        });
        refused(words);
        bad(&|closure| closure.as_array_mut().unwrap().push(entry(name)));
        refused(words);
        bad(&|closure| closure[11]["references"].as_array_mut().unwrap().push(name.into()));
        refused(words);
    }
    bad(&|closure| closure[5]["narHash"] = "sha256:0".into());
    refused(&format!("bad.json, entry 5 ({}), narHash is not valid: expected a SHA-256", path(5)));
    bad(&|closure| closure[5]["narHash"] = json!(["../../x"]));
    refused(&format!("bad.json, entry 5 ({}), narHash is not valid: expected a SHA-256", path(5)));
    bad(&|closure| {
        let mut twice = closure[5].clone();
        twice["narSize"] = 7.into();
        closure.as_array_mut().unwrap().push(twice);
    });
    refused("it has two entries with different sizes");
    let text = fs::read_to_string(world.at("closure.json")).unwrap();
    fs::write(world.at("bad.json"), text.replacen("\"narSize\":1000,", "\"narSize\":1000,\"narSize\":1,", 1))
        .unwrap();
    refused("the key \"narSize\" occurs twice");
    // As printed by Nix 2.19 and 2.33.
    world.write("bad.json", &json!({"/etc/shadow": {"narHash": "", "narSize": 1, "references": []}}));
    refused("store path \"/etc/shadow\"");
    let info = json!({"shadow": {"narHash": "", "narSize": 1, "references": []}});
    world.write("bad.json", &json!({"version": 2, "storeDir": "/etc", "info": info}));
    refused("store path \"/etc/shadow\"");
}

fn has_files(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries.map(|entry| entry.unwrap().path()).any(|path| path.is_file() || has_files(&path))
    })
}

/// Regression: if a key occurred twice, the program used the last value.
#[test]
fn duplicate_keys_are_errors_in_every_document() {
    let world = World::new();
    let image = world.nixply(&[], &commands()[0]).stdout;
    let image = String::from_utf8(image).unwrap();
    fs::write(world.at("twice.json"), image.replacen("\"version\":", "\"version\": 1, \"version\":", 1))
        .unwrap();
    let nested = image.replacen("\"paths\":", "\"paths\": [], \"paths\":", 1);
    fs::write(world.at("nested.json"), nested).unwrap();
    for file in ["twice.json", "nested.json"] {
        for command in [
            &["inspect"][..],
            &["layout", "-q", "--no-cache", "--real-store-dir", "store"],
            &["cache", "import"],
        ] {
            let mut arguments = [command, &[file]].concat();
            if command[0] == "layout" {
                arguments.push("out");
            }
            let output = world.nixply(&[], &arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert!(stderr.contains("occurs twice"), "{arguments:?}: {stderr}");
        }
    }
    let requests = [
        (r#"{"maxLayers": 1, "maxLayers": 2}"#, "the key \"maxLayers\" occurs twice"),
        (r#"{"config": {"Labels": {"a": "1", "a": "2"}}}"#, "the key \"a\" occurs twice"),
        (r#"{"layers": [{"deps": [], "deps": []}]}"#, "the key \"deps\" occurs twice"),
    ];
    for (request, words) in requests {
        fs::write(world.at("bad.json"), request).unwrap();
        let output = world.nixply(&[], &[&["plan", "bad.json"][..], &IN[..2]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    let plan = |lock: &str, more: &[&str]| {
        let base = [&["plan", "request.json"][..], &IN[..2], &["--lock", lock]].concat();
        world.nixply(&[], &[&base, more].concat())
    };
    assert_eq!(plan("lock.json", &["--update"]).status.code(), Some(0));
    let lock = fs::read_to_string(world.at("lock.json")).unwrap();
    let p3 = "\"p3\": {";
    assert!(lock.contains(p3), "{lock}");
    fs::write(world.at("twice.lock"), lock.replacen(p3, "\"p3\": {\"path\":\"x\"},\n    \"p3\": {", 1))
        .unwrap();
    let output = plan("twice.lock", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the key \"p3\" occurs twice"), "{stderr}");
}
