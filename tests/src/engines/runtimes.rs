//! podman and Docker behind one face, so that a test can ask both the same.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use super::{Folder, Image, Registry, as_root, json, skopeo, unique};
use crate::run::{Output, run};

/// What runs containers.
pub trait Engine {
    /// A command of it.
    fn command(&self, arguments: &[&str]) -> Command;

    /// Leads a program that runs the engine to this one.
    fn lead(&self, command: &mut Command);

    /// Takes an image in, compressed like this, and gives the name that it has from then on.
    fn take(&self, image: &Image<'_>, codec: &str) -> String;

    /// Runs an image to its end: `arguments` are options, the image's name and the program's arguments.
    fn run(&self, arguments: &[&str]) -> Output {
        run(self.command(&["run", "--rm", "--network", "none"]).args(arguments))
    }

    /// What the engine knows of an image.
    fn inspect(&self, reference: &str) -> Value {
        json(&run(&mut self.command(&["image", "inspect", reference])).ok())[0].clone()
    }
}

/// podman with all that it keeps in a folder of the test's own.
pub struct Podman {
    folder: Folder,
}

impl Podman {
    /// With nothing in it.
    #[allow(clippy::new_without_default, reason = "it makes a folder, which is no default value")]
    pub fn new() -> Self {
        let folder = Folder::new();
        let root = folder.path().display();
        // There is no systemd, and Debian's crun cannot do without it. Locks in files are this podman's alone; those in
        // shared memory are the machine's. A container may have no higher limits than who starts it.
        let containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
             lock_type = \"file\"\ntmp_dir = \"{root}/tmp\"\n"
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}/images\"\nrunroot = \"{root}/run\"\n"
        );
        fs::write(folder.join("containers.conf"), containers).unwrap();
        fs::write(folder.join("storage.conf"), storage).unwrap();
        Self { folder }
    }

    /// A program that puts images where this podman finds them.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = as_root(program);
        self.lead(&mut command);
        command
    }

    /// Where it keeps images: for `CONTAINERS_STORAGE_CONF`.
    pub fn storage_conf(&self) -> PathBuf {
        self.folder.join("storage.conf")
    }

    /// Pulls what `source` names in the words of containers-transports(5), and gives the image's ID.
    #[track_caller]
    pub fn pull(&self, source: &str) -> String {
        run(&mut self.command(&["pull", "--quiet", "--tls-verify=false", source])).ok()
    }
}

impl Engine for Podman {
    fn lead(&self, command: &mut Command) {
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.storage_conf());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("podman");
        command.args(arguments);
        command
    }

    /// From an OCI layout.
    #[track_caller]
    fn take(&self, image: &Image<'_>, codec: &str) -> String {
        let folder = Folder::new();
        let layout = folder.join("layout");
        image.layout(&layout, "t", Some(codec));
        self.pull(&format!("oci:{}:t", layout.display()))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // A test that failed may have left a container.
        let _ = self.command(&["rm", "--all", "--force", "--time", "0"]).output();
    }
}

/// The Docker daemon that `cargo xtask test` has started. Tests share it, so they have names of their own in it.
pub struct Docker {
    host: String,
    /// The client's settings: none, whatever the user's are.
    settings: Folder,
    registry: Registry,
    taken: Mutex<Vec<String>>,
}

impl Docker {
    /// The daemon at `host`, for images from `registry`.
    pub fn new(host: String, registry: Registry) -> Self {
        Self { host, settings: Folder::new(), registry, taken: Mutex::default() }
    }

    /// Pushes an image to the registry, for [`Docker::pull`].
    #[track_caller]
    pub fn push(&self, image: &Image<'_>, codec: &str) -> String {
        let folder = Folder::new();
        let (layout, name) = (folder.join("layout"), unique("-docker"));
        image.layout(&layout, "t", Some(codec));
        let (from, to) = (format!("oci:{}:t", layout.display()), self.registry.reference(&name, "t"));
        let flags = ["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"];
        run(skopeo(&flags).args([from, to])).ok();
        format!("{}/{name}:t", self.registry.address)
    }

    /// Pulls; the image goes when this value goes.
    pub fn pull(&self, reference: &str) -> Output {
        self.owns(reference);
        run(&mut self.command(&["pull", reference]))
    }

    /// Makes an image go when this value goes.
    pub fn owns(&self, reference: &str) {
        self.taken.lock().unwrap().push(reference.to_owned());
    }

    /// Where it listens.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Engine for Docker {
    fn lead(&self, command: &mut Command) {
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.settings.path());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.settings.path()).args(["--host", &self.host]).args(arguments);
        command
    }

    /// From the registry.
    #[track_caller]
    fn take(&self, image: &Image<'_>, codec: &str) -> String {
        let reference = self.push(image, codec);
        self.pull(&reference).ok();
        reference
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for reference in self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter() {
            let _ = self.command(&["rmi", "--force", reference]).output();
        }
    }
}
