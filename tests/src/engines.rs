//! Container tools that tests use on images: skopeo, umoci, podman and Docker. Each test has its own
//! directories, names and podman storage, so tests can run in parallel and leave nothing behind.

mod registry;
mod runtimes;
mod served;
mod tree;
mod validate;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use registry::Registry;
pub use runtimes::{Docker, Engine, Podman, engines};
use serde_json::Value;
pub use served::{Answer, Served, Summary};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
pub use tree::Tree;
pub use validate::{Blob, Valid, validate};

use crate::nix::Nix;
use crate::run::run;

/// An image built with the package set.
pub struct Image<'n> {
    nix: &'n Nix,
    /// The spec file that Nix built.
    pub spec: PathBuf,
}

impl<'n> Image<'n> {
    /// Builds an image with the frontend of this Nix: the plugin's builtin, or else the builder. `arguments` is
    /// the image's attribute set. `before` is the Nix code before the call, such as `let ... in`.
    #[track_caller]
    pub fn build(nix: &'n Nix, before: &str, arguments: &str) -> Self {
        Self::of(nix, &format!("{before} {} {arguments}", Self::function(nix)))
    }

    /// Builds the image that a Nix expression evaluates to.
    #[track_caller]
    pub fn of(nix: &'n Nix, body: &str) -> Self {
        Self { nix, spec: nix.build(body) }
    }

    /// Returns the Nix function that builds images.
    pub fn function(nix: &Nix) -> &'static str {
        if nix.plugin.is_some() { "builtins.nixplyImage" } else { "buildImage" }
    }

    /// Adds the image to a layout directory and returns its manifest's digest.
    #[track_caller]
    pub fn layout(&self, directory: &Path, tag: &str, codec: Option<&str>) -> String {
        let mut command = self.nix.nixply();
        command.arg("layout").arg(&self.spec).arg(directory).args(["--tag", tag]);
        command.args(codec.map(|codec| format!("--compression={codec}")));
        run(&mut command).ok()
    }

    /// Returns the output of `nixply inspect --json`.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        json(&run(self.nix.nixply().args(["inspect", "--json"]).arg(&self.spec)).ok())
    }

    /// Returns the image ID.
    #[track_caller]
    pub fn id(&self) -> String {
        text(&self.inspect()["imageId"]).to_owned()
    }

    /// Returns the layers' diff_ids from the bottom up.
    #[track_caller]
    pub fn diff_ids(&self) -> Vec<String> {
        let layers = self.inspect()["layers"].as_array().expect("nixply inspect lists layers").clone();
        layers.iter().map(|layer| text(&layer["diffId"]).to_owned()).collect()
    }
}

/// Builds some expressions and returns the closure of the results. `roots` is the body of a Nix list, and
/// `before` the Nix code before the list, such as `let ... in`.
#[track_caller]
pub fn closure(nix: &Nix, before: &str, roots: &str) -> Vec<PathBuf> {
    let built = nix.try_build(&format!("{before} [ {roots} ]")).ok();
    run(nix.command("nix-store").arg("-qR").args(built.lines())).ok().lines().map(PathBuf::from).collect()
}

/// A temporary directory in which programs may leave mounts and files of other users. Dropping the value
/// removes them all.
pub struct Directory(TempDir);

impl Directory {
    /// Creates a directory.
    #[allow(clippy::new_without_default, reason = "it creates a directory, which is not a default value")]
    pub fn new() -> Self {
        // podman names an image after its layout's directory, and image names are lowercase.
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix(&unique("")).rand_bytes(0).tempdir();
        Self(directory.expect("a temporary directory can be created"))
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns a path below the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut below: Vec<&str> = places.filter(|place| Path::new(place).starts_with(self.path())).collect();
        // Innermost first.
        below.sort_by_key(|place| std::cmp::Reverse(place.len()));
        for place in below {
            let _ = as_root("umount").args(["-l", place]).output();
        }
        if !is_root() {
            let _ = as_root("rm").arg("-rf").arg(self.path()).output();
        }
    }
}

/// Returns a command that runs `program` as root. Engines and unpackers need root to set owners and to mount.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    // The environment selects the test's own directories.
    command.arg("--preserve-env").arg(program);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns a command that runs skopeo, which needs neither root nor a policy file here.
pub fn skopeo(arguments: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command
}

/// Returns `name` with a suffix that is unique among tests and runs.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!(
        "consumers{name}-{:x}-{:x}-{}",
        now.as_nanos(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Returns the digest of some bytes, as OCI writes it.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Parses JSON.
#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns the text of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// Returns the texts of a JSON list.
#[track_caller]
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(text).collect()
}
