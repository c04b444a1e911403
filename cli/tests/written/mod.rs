//! All commands that write a file, with their inputs, for several users of the machine.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nixply_oci::Digest;
use serde_json::json;
use tempfile::TempDir;

/// Commands that write a file. IN is the directory of inputs, OUT the file, DIR its directory.
pub(crate) const WRITERS: [Writer; 13] = [
    Writer::of(
        "build --quiet --no-cache --closure IN/closure.json --real-store-dir IN/store -o OUT IN/request.json",
    ),
    Writer::of("plan --closure IN/closure.json --lock OUT --update IN/request.json"),
    Writer::of("strategies --quiet --no-cache --synthetic SPEC --format text -o OUT"),
    Writer::of("strategies --quiet --no-cache --synthetic SPEC --format json -o OUT"),
    Writer::of("strategies --quiet --no-cache --synthetic SPEC --format html -o OUT"),
    Writer::of("n2c image OUT IN/config.json IN/layers.json"),
    Writer::of("n2c image-from-dir OUT IN/dir"),
    Writer::of("n2c image-from-manifest OUT IN/dir/manifest.json IN/blobs.json"),
    Writer::of("n2c layers-from-reproducible-storepaths OUT IN/graph.json"),
    Writer::of("n2c layers-from-non-reproducible-storepaths OUT IN/graph.json"),
    // Under nix2container's name, as a link to the program.
    Writer::of("nix2container image OUT IN/config.json IN/layers.json"),
    Writer { line: "man --dir DIR", file: "nixply.1" },
    Writer { line: "man --dir DIR", file: "nixply-cache-gc.1" },
];

const SPEC: &str = "seed=1,packages=20,images=1,roots=2,releases=3";

/// Commands that print something. NEW is a directory that does not exist yet.
pub(crate) const PRINTERS: [&str; 26] = [
    "--help",
    "--version",
    "build --help",
    "container --help",
    "n2c image -h",
    "nix2container --help",
    "completions bash",
    "completions zsh",
    "man",
    "reference",
    "build --quiet --no-cache --closure IN/closure.json --real-store-dir IN/store IN/request.json",
    "build --quiet --no-cache --closure IN/closure.json --real-store-dir IN/store -o /dev/fd/1 IN/request.json",
    "plan --closure IN/closure.json IN/request.json",
    "plan --closure IN/closure.json --json IN/request.json",
    "strategies --quiet --no-cache --synthetic SPEC",
    "strategies --quiet --no-cache --synthetic SPEC --format html -o -",
    "inspect IN/image.json",
    "inspect --json IN/large.json",
    "explain IN/image.json --closure IN/closure.json",
    "diff IN/image.json IN/large.json --old-closure IN/closure.json --new-closure IN/closure.json",
    "cache stat --cache-dir NEW",
    "cache gc --cache-dir NEW",
    "cache import --cache-dir NEW IN/image.json",
    "layout --quiet --no-cache --real-store-dir IN/store IN/image.json NEW",
    "n2c image - IN/config.json IN/layers.json",
    "serve --quiet --no-cache --real-store-dir IN/store IN/image.json",
];

/// A user other than root; `nobody` on most machines.
pub(crate) const OTHER: u32 = 65534;

/// See [`WRITERS`].
#[derive(Clone, Copy)]
pub(crate) struct Writer {
    pub line: &'static str,
    pub file: &'static str,
}

impl Writer {
    pub(crate) const fn of(line: &'static str) -> Self {
        Self { line, file: "out" }
    }

    /// Whether it also makes other files next to the output.
    pub(crate) fn is_of_many(&self) -> bool {
        self.line.contains("DIR")
    }

    /// Whether the result depends on the old content.
    pub(crate) fn updates(&self) -> bool {
        self.line.contains("--update")
    }

    /// Whether it also prints something.
    pub(crate) fn prints(&self) -> bool {
        self.line.starts_with("plan")
    }

    /// Whether two results are equal for the same inputs. A comparison of strategies contains times, which differ.
    pub(crate) fn same(&self, found: &[u8], expected: &[u8]) -> bool {
        let timeless = |bytes: &[u8]| -> Vec<u8> {
            let is_time = |byte: &&u8| self.line.starts_with("strategies") && b"0123456789.".contains(byte);
            bytes.iter().filter(|byte| !is_time(byte)).copied().collect()
        };
        timeless(found) == timeless(expected)
    }

    /// The exit code if the output cannot be written.
    pub(crate) fn failure(&self) -> i32 {
        if self.line.starts_with("nix2container") { 1 } else { 2 }
    }
}

/// Inputs and the program, readable for every user.
pub(crate) struct World(TempDir);

impl World {
    pub(crate) fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let open = PermissionsExt::from_mode(0o755);
        fs::set_permissions(world.0.path(), open).unwrap();
        // Other users may not be able to read the build directory.
        let program = world.path("nixply");
        let built = env!("CARGO_BIN_EXE_nixply");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        symlink("nixply", world.path("nix2container")).unwrap();
        world.fill();
        world
    }

    fn fill(&self) {
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app";
        let directory = self.path("in/store/0123456789abcdfghijklmnpqrsvwxyz-app");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("app"), "app").unwrap();
        let write = |name: &str, value: serde_json::Value| {
            fs::write(self.path("in").join(name), value.to_string()).unwrap();
        };
        write("closure.json", json!([{"path": path, "narHash": "", "narSize": 1000, "references": []}]));
        let hash = format!("sha256:{}", "0".repeat(64));
        write("hashed.json", json!([{"path": path, "narHash": hash, "narSize": 1000, "references": []}]));
        write("request.json", json!({"name": "app", "arch": "amd64", "config": {"Cmd": [path]}}));
        // The old image.
        let former = "/nix/store/00000000000000000000000000000000-app";
        write("former.json", json!({"name": "app", "arch": "amd64", "config": {"Cmd": [former]}}));
        write(
            "former-closure.json",
            json!([{"path": former, "narHash": "", "narSize": 900, "references": []}]),
        );
        write("config.json", json!({}));
        write("layers.json", json!([]));
        write("graph.json", json!([{"path": directory, "references": []}]));
        fs::create_dir(self.path("in/dir")).unwrap();
        let config = json!({"config": {}, "rootfs": {"diff_ids": []}});
        let digest = Digest::of(config.to_string().as_bytes());
        let blob = json!({"mediaType": "m", "digest": digest, "size": 1});
        write("dir/manifest.json", json!({"config": blob, "layers": []}));
        write(&format!("dir/{}", digest.hex()), config);
        write("blobs.json", json!({digest.hex(): self.path(&format!("in/dir/{}", digest.hex()))}));
        // Enough paths to exceed the buffer of a pipe, 64 KiB.
        let digest = format!("sha256:{}", "0".repeat(64));
        let paths: Vec<_> = (0..2000).map(|at| json!({"path": format!("{path}-{at:04}")})).collect();
        let layer =
            json!({"digest": digest, "size": 1, "diff_ids": digest, "mediatype": "m", "paths": paths});
        write("large.json", json!({"version": 1, "layers": [layer]}));
        write("large-layers.json", json!([layer]));
        write(
            "packed.json",
            json!({"name": "app", "arch": "amd64", "config": {"Cmd": [path]}, "compression": "zstd"}),
        );
        let image = self.path("in/image.json");
        let build = "build --quiet --no-cache --closure IN/hashed.json --real-store-dir IN/store -o OUT IN/packed.json";
        assert!(self.command(&Writer::of(build), &image, None).output().unwrap().status.success());
        fs::create_dir(self.path("old")).unwrap();
        let old = self.path("old/lock");
        let plan = Writer::of("plan --closure IN/former-closure.json --lock OUT --update IN/former.json");
        assert!(self.command(&plan, &old, None).output().unwrap().status.success());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The old content of a file.
    pub(crate) fn old(&self, writer: &Writer) -> Vec<u8> {
        if writer.updates() { fs::read(self.path("old/lock")).unwrap() } else { b"old\n".to_vec() }
    }

    /// Returns the command that writes `file`, as `user` or as the current user.
    pub(crate) fn command(&self, writer: &Writer, file: &Path, user: Option<u32>) -> Command {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut words: Vec<String> = writer.line.split(' ').map(str::to_owned).collect();
        for word in &mut words {
            *word = match &**word {
                "OUT" => text(file),
                "DIR" => text(file.parent().unwrap()),
                "NEW" => text(&file.with_extension("new")),
                "SPEC" => SPEC.to_owned(),
                other => other.replace("IN/", &text(&self.path("in/"))),
            };
        }
        let name = if words[0] == "nix2container" { words.remove(0) } else { "nixply".to_owned() };
        self.program(&name, &words.iter().map(String::as_str).collect::<Vec<_>>(), user)
    }

    /// Runs the program under another name.
    pub(crate) fn program(&self, name: &str, words: &[&str], user: Option<u32>) -> Command {
        let mut command = as_user(user);
        command.args(["sh", "-c", "umask 022; exec \"$@\"", "sh"]);
        command.arg(self.path(name)).args(words).stdin(Stdio::null());
        command.env_remove("NIX_STORE_DIR").env("HOME", "/nonexistent").env_remove("XDG_CACHE_HOME");
        command
    }

    /// Returns the content that a command writes to a new file, or over an old one.
    pub(crate) fn expected(&self, writer: &Writer, over: bool) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(writer.file);
        if over {
            fs::write(&file, self.old(writer)).unwrap();
        }
        let output = self.command(writer, &file, None).output().unwrap();
        assert!(output.status.success(), "{}: {}", writer.line, text(&output.stderr));
        fs::read(&file).unwrap()
    }
}

/// Returns an `env` command as another user.
pub(crate) fn as_user(user: Option<u32>) -> Command {
    let Some(user) = user else { return Command::new("env") };
    let mut command = Command::new("setpriv");
    let id = user.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "env"]);
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Users to run everything as.
pub(crate) fn users() -> Vec<Option<u32>> {
    if is_root() {
        return vec![None, Some(OTHER)];
    }
    skipped("only root can be two users and make devices");
    vec![None]
}

pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED in part: {why}");
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs a script in a directory and returns its output.
pub(crate) fn sh(directory: &Path, script: &str) -> String {
    let Output { status, stdout, stderr } =
        Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(status.success(), "{script}: {}", text(&stderr));
    text(&stdout).trim_end().to_owned()
}
