//! The cache's flags and environment variables, and `nixply cache`. Without Nix.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with the request of a compressed image, and its closure of one store path.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
        fs::create_dir_all(world.at("store")).unwrap();
        let file = world.at("store").join(path.rsplit('/').next().unwrap());
        fs::write(&file, "text").unwrap();
        // The mode that Nix sets.
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
        let hash = format!("sha256:{}", "0".repeat(64));
        let closure = format!(r#"{{"{path}": {{"narHash": "{hash}", "narSize": 120, "references": []}}}}"#);
        fs::write(world.at("closure.json"), closure).unwrap();
        let request = format!(r#"{{"compression": "gzip", "config": {{"Cmd": ["{path}"]}}}}"#);
        fs::write(world.at("request.json"), request).unwrap();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program with a cache in the environment.
    fn nixply(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env("NIXPLY_CACHE_DIR", self.at("cache")).current_dir(self.0.path());
        command.output().unwrap()
    }

    fn build(&self, flags: &[&str]) -> Output {
        let input =
            ["build", "request.json", "--closure", "closure.json", "--real-store-dir", "store", "--quiet"];
        self.nixply(&[&input, flags].concat())
    }
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| entries.count())
}

#[test]
fn no_cache_overrides_the_environment() {
    let world = World::new();
    let built = world.build(&["--no-cache"]);
    assert_eq!((built.status.code(), said(&built).2), (Some(0), ""));
    assert_eq!(files(&world.at("cache")), 0);
    assert_eq!(world.build(&[]).stdout, built.stdout);
    assert!(files(&world.at("cache")) > 0, "the build uses the cache that the environment names");
}

/// Returns a spec without compression.
fn plain_image() -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    let layer = format!(r#"{{"digest": "{digest}", "size": 1024, "diff_ids": "{digest}", "mediatype": ""}}"#);
    format!(r#"{{"version": 1, "layers": [{layer}]}}"#)
}

#[test]
fn import_reports_each_image_despite_errors_in_others() {
    let world = World::new();
    let built = world.build(&["--no-cache"]);
    for image in ["a.json", "c.json"] {
        fs::write(world.at(image), &built.stdout).unwrap();
    }
    fs::write(world.at("plain.json"), plain_image()).unwrap();
    let unread = world.nixply(&["cache", "import", "a.json", "none.json"]);
    assert_eq!((said(&unread).0, said(&unread).1), (Some(1), ""));
    assert_eq!(files(&world.at("cache")), 0, "if one spec cannot be read, none is imported");

    let imported = world.nixply(&["cache", "import", "a.json", "plain.json", "c.json"]);
    let (code, out, error) = said(&imported);
    assert_eq!(out, "imported 1 layers of a.json\nimported 1 layers of c.json\n");
    assert_eq!(code, Some(1));
    let message = "error: cannot import any layer of plain.json\nhint: build";
    assert!(error.starts_with(message), "{error}");
}

/// Scripts clear a variable to unset it, and join lists that may be empty.
#[test]
fn empty_variables_count_as_unset() {
    let world = World::new();
    let run = |arguments: &[&str], shared: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).current_dir(world.0.path()).env("XDG_CACHE_HOME", world.at("xdg"));
        for name in ["NIXPLY_CACHE_DIR", "NIXPLY_CACHE_LIMIT", "NIX_STORE_DIR"] {
            command.env(name, "");
        }
        command.env("NIXPLY_CACHE_SHARED", shared).output().unwrap()
    };
    let input = ["build", "request.json", "--closure", "closure.json", "--real-store-dir", "store", "-q"];
    for shared in ["", ":", ":shared::"] {
        let built = run(&input, shared);
        assert_eq!((said(&built).0, said(&built).2), (Some(0), ""), "{shared:?}");
    }
    assert!(files(&world.at("xdg/nixply")) > 0, "the cache is in its default directory");
    let stat = run(&["cache", "stat"], "");
    assert!(said(&stat).1.contains(" of 10.0 GB in "), "{stat:?}");
}

#[test]
fn missing_cache_is_not_an_error() {
    let world = World::new();
    for verb in ["stat", "verify"] {
        let output = world.nixply(&["cache", verb, "--cache-dir", "none"]);
        assert_eq!(said(&output), (Some(0), "there is no cache at none yet\n", ""), "{verb}");
    }
}

#[test]
fn check_store_flag_and_variable_enable_checks() {
    // The hash in the closure is all zeros, so every check fails.
    let world = World::new();
    let run = |flags: &[&str], variable: &str| {
        let input =
            ["build", "request.json", "--closure", "closure.json", "--real-store-dir", "store", "--no-cache"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(input).args(flags).env("NIXPLY_CHECK_STORE", variable).current_dir(world.0.path());
        let output = command.output().unwrap();
        let (code, _, error) = said(&output);
        assert_eq!(code == Some(1), error.contains("error: store path is damaged: "), "{error}");
        code == Some(1)
    };
    assert!(run(&["--check-store"], "") && run(&[], "1") && run(&["--check-store"], "0"));
    assert!(!run(&[], "") && !run(&[], "0") && !run(&[], "false"));
}

#[test]
fn a_limit_of_0_empties_the_cache() {
    let world = World::new();
    assert_eq!(said(&world.build(&[])).0, Some(0));
    let stat = || said(&world.nixply(&["cache", "stat"])).1.to_owned();
    assert!(stat().starts_with("segments         1 "), "{}", stat());
    assert_eq!(said(&world.nixply(&["cache", "gc", "--cache-limit", "0"])).0, Some(0));
    assert!(stat().contains("\n0 B of 10.0 GB in "), "{}", stat());
}
