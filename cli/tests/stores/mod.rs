//! A store and a cache for tests, and a function that runs programs and panics if they hang.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nixply_oci::Digest;
use rustix::fs::{CWD, FileType, Mode, mknodat};

pub(crate) const NAMES: [&str; 2] = ["a", "b"];

/// Time after which a program counts as hanging.
pub(crate) const HANGS: Duration = Duration::from_secs(120);

/// A store with two directories, each with one file, and a request for an image of them.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) size: usize,
}

/// Returns the NAR of a directory with one file, written after the specification.
pub(crate) fn archive(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut word = |word: &[u8]| {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    let text = "nix-archive-1 ( type directory entry ( name file node ( type regular contents";
    text.split(' ').for_each(|part| word(part.as_bytes()));
    word(content);
    [")", ")", ")"].iter().for_each(|part| word(part.as_bytes()));
    bytes
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

impl World {
    pub(crate) fn new(size: usize, codec: &str) -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap(), size };
        let mut closure = serde_json::Map::new();
        for name in NAMES {
            fs::create_dir_all(world.file(name).parent().unwrap()).unwrap();
            fs::write(world.file(name), world.content(name)).unwrap();
            set_mode(&world.file(name), 0o444);
            set_mode(&world.directory_of(name), 0o555);
            let hash = Digest::of(&archive(&world.content(name))).to_string();
            let info = serde_json::json!({"narHash": hash, "narSize": size, "references": []});
            closure.insert(path(name), info);
        }
        fs::write(world.at("closure.json"), serde_json::Value::Object(closure).to_string()).unwrap();
        let request = serde_json::json!({"compression": codec, "layers": [{"deps": NAMES.map(path)}]});
        fs::write(world.at("request.json"), request.to_string()).unwrap();
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.at("store").join(path(name).rsplit('/').next().unwrap()).join("file")
    }

    pub(crate) fn directory_of(&self, name: &str) -> PathBuf {
        self.file(name).parent().unwrap().into()
    }

    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        name.repeat(self.size).into_bytes()
    }

    /// Overwrites a byte in the middle of b's file.
    pub(crate) fn put(&self, byte: u8) {
        set_mode(&self.file("b"), 0o644);
        let file = File::options().write(true).open(self.file("b")).unwrap();
        file.write_all_at(&[byte], self.size as u64 / 2).unwrap();
        set_mode(&self.file("b"), 0o444);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env("NIXPLY_CACHE_DIR", self.at("cache")).current_dir(self.directory.path());
        command
    }

    pub(crate) fn nixply(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments))
    }

    pub(crate) fn build(&self, flags: &[&str]) -> Output {
        let input = ["build", "request.json", "--closure", "closure.json", "--real-store-dir", "store", "-q"];
        self.nixply(&[&input, flags].concat())
    }

    pub(crate) fn built(&self, flags: &[&str]) -> String {
        let built = self.build(flags);
        assert_eq!((built.status.code(), said(&built).2), (Some(0), ""), "{flags:?}");
        said(&built).1.to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in NAMES {
            // The file in it can only be removed from a writable directory.
            let _ = fs::set_permissions(self.directory_of(name), Permissions::from_mode(0o755));
        }
    }
}

/// Runs a program. Panics if it hangs.
pub(crate) fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > HANGS {
            child.kill().unwrap();
            panic!("the program hangs: {command:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

pub(crate) fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}
