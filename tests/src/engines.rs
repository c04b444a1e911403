//! Images in the hands of those who use them: skopeo, umoci, podman, Docker. Each test has folders, names and podman
//! storage of its own, so tests run side by side and leave nothing behind.

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

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::nix::Nix;
use crate::run::run;

pub use registry::Registry;
pub use runtimes::{Docker, Engine, Podman};
pub use served::{Answer, Done, Served};
pub use tree::Tree;
pub use validate::{Blob, Valid, validate};

/// An image of the package set.
pub struct Image<'n> {
    nix: &'n Nix,
    /// The file that Nix built.
    pub spec: PathBuf,
}

impl<'n> Image<'n> {
    /// Builds an image with the door that the Nix has: the plugin's builtin, else the builder. `before` is Nix code
    /// that may bind names (`let ... in`) for `arguments`, the image's attribute set.
    #[track_caller]
    pub fn build(nix: &'n Nix, before: &str, arguments: &str) -> Self {
        Self::of(nix, &format!("{before} {} {arguments}", Self::door(nix)))
    }

    /// The image that an expression gives.
    #[track_caller]
    pub fn of(nix: &'n Nix, body: &str) -> Self {
        Self { nix, spec: nix.build(body) }
    }

    /// The function that makes images.
    pub fn door(nix: &Nix) -> &'static str {
        if nix.plugin.is_some() { "builtins.nixplyImage" } else { "buildImage" }
    }

    /// Adds the image to a layout folder and gives its manifest's digest.
    #[track_caller]
    pub fn layout(&self, folder: &Path, tag: &str, codec: Option<&str>) -> String {
        let mut command = self.nix.nixply();
        command.arg("layout").arg(&self.spec).arg(folder).args(["--tag", tag]);
        command.args(codec.map(|codec| format!("--compression={codec}")));
        run(&mut command).ok()
    }

    /// What `nixply inspect` says of it.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        json(&run(self.nix.nixply().args(["inspect", "--json"]).arg(&self.spec)).ok())
    }

    /// The image ID.
    #[track_caller]
    pub fn id(&self) -> String {
        text(&self.inspect()["imageId"]).to_owned()
    }

    /// The layers' diff_ids from the bottom up.
    #[track_caller]
    pub fn diff_ids(&self) -> Vec<String> {
        let layers = self.inspect()["layers"].as_array().expect("nixply inspect lists layers").clone();
        layers.iter().map(|layer| text(&layer["diffId"]).to_owned()).collect()
    }
}

/// What some expressions build, and all that they refer to. `roots` is the body of a Nix list.
#[track_caller]
pub fn closure(nix: &Nix, before: &str, roots: &str) -> Vec<PathBuf> {
    let built = nix.try_build(&format!("{before} [ {roots} ]")).ok();
    run(nix.command("nix-store").arg("-qR").args(built.lines())).ok().lines().map(PathBuf::from).collect()
}

/// A temporary folder in which programs may leave mounts and files of other users.
pub struct Folder(TempDir);

impl Folder {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "it makes a folder, which is no default value")]
    pub fn new() -> Self {
        // podman calls an image after its layout's folder, and image names are in lower case.
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(&unique("")).rand_bytes(0).tempdir();
        Self(folder.expect("a temporary folder can be made"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path below it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Folder {
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

/// `program` with root's rights, which engines and unpackers need: for owners, and for mounts.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    // The variables that lead a program to the test's own folders.
    command.arg("--preserve-env").arg(program);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// skopeo, which needs no root and no policy of the machine.
pub fn skopeo(arguments: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command
}

/// `name` with something that no other test, and no other run, has.
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

/// The digest of some bytes, as OCI writes it.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Reads JSON.
#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A JSON string's text.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A JSON list's texts.
#[track_caller]
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(text).collect()
}
