//! A common interface of podman and Docker, so that a test can run with both.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use super::{Directory, Image, Registry, as_root, json, skopeo, unique};
use crate::run::{Output, run};

/// A container engine.
pub trait Engine {
    /// Returns a command of the engine.
    fn command(&self, arguments: &[&str]) -> Command;

    /// Configures a program that calls the engine to use this one.
    fn configure(&self, command: &mut Command);

    /// Loads an image, compressed with this codec, and returns its name in the engine.
    fn load(&self, image: &Image<'_>, codec: &str) -> String;

    /// Runs an image to its end. `arguments` are options, the image's name and the program's arguments.
    fn run(&self, arguments: &[&str]) -> Output {
        run(self.command(&["run", "--rm", "--network", "none"]).args(arguments))
    }

    /// Returns the engine's description of an image.
    fn inspect(&self, reference: &str) -> Value {
        json(&run(&mut self.command(&["image", "inspect", reference])).ok())[0].clone()
    }
}

/// Returns all engines with which `nixply container run` is tested, with their names. `images` are names of images that the engines
/// remove when they are dropped, if their data outlives them.
pub fn engines(
    docker_host: &str,
    registry: Registry,
    images: &[String],
) -> Vec<(&'static str, Box<dyn Engine>)> {
    let docker = Docker::new(docker_host.to_owned(), registry);
    images.iter().for_each(|image| docker.owns(image));
    vec![("docker", Box::new(docker)), ("podman", Box::new(Podman::new()))]
}

/// podman with all its data in the test's own directory.
pub struct Podman {
    directory: Directory,
}

impl Podman {
    /// Creates a podman without images.
    #[allow(clippy::new_without_default, reason = "it creates a directory, which is not a default value")]
    pub fn new() -> Self {
        let directory = Directory::new();
        let root = directory.path().display();
        // Debian's crun needs systemd, which test machines may lack, so containers run with runc. Lock files
        // are private to this podman; with locks in shared memory, every podman of the machine would share
        // them. A container's ulimits must not exceed those of the process that starts it.
        let containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
             lock_type = \"file\"\ntmp_dir = \"{root}/tmp\"\n"
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}/images\"\nrunroot = \"{root}/run\"\n"
        );
        fs::write(directory.join("containers.conf"), containers).unwrap();
        fs::write(directory.join("storage.conf"), storage).unwrap();
        Self { directory }
    }

    /// Returns a command that runs a program as root with this podman's configuration. Images that the program
    /// stores are images of this podman.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = as_root(program);
        self.configure(&mut command);
        command
    }

    /// Returns its storage configuration, for `CONTAINERS_STORAGE_CONF`.
    pub fn storage_conf(&self) -> PathBuf {
        self.directory.join("storage.conf")
    }

    /// Pulls from `source`, in the syntax of containers-transports(5), and returns the image's ID.
    #[track_caller]
    pub fn pull(&self, source: &str) -> String {
        run(&mut self.command(&["pull", "--quiet", "--tls-verify=false", source])).ok()
    }
}

impl Engine for Podman {
    fn configure(&self, command: &mut Command) {
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.storage_conf());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("podman");
        command.args(arguments);
        command
    }

    /// Loads the image from an OCI layout.
    #[track_caller]
    fn load(&self, image: &Image<'_>, codec: &str) -> String {
        let directory = Directory::new();
        let layout = directory.join("layout");
        image.layout(&layout, "t", Some(codec));
        self.pull(&format!("oci:{}:t", layout.display()))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // A failed test may have left a container.
        let _ = self.command(&["rm", "--all", "--force", "--time", "0"]).output();
    }
}

/// The Docker daemon that `cargo xtask test` has started. Tests share it, so they use unique names.
pub struct Docker {
    host: String,
    /// The client's configuration directory. It is empty, so that the user's settings have no effect.
    settings: Directory,
    registry: Registry,
    taken: Mutex<Vec<String>>,
}

impl Docker {
    /// Returns the daemon at `host`, which loads images from `registry`.
    pub fn new(host: String, registry: Registry) -> Self {
        Self { host, settings: Directory::new(), registry, taken: Mutex::default() }
    }

    /// Pushes an image to the registry and returns its reference, for [`Docker::pull`].
    #[track_caller]
    pub fn push(&self, image: &Image<'_>, codec: &str) -> String {
        let directory = Directory::new();
        let (layout, name) = (directory.join("layout"), unique("-docker"));
        image.layout(&layout, "t", Some(codec));
        let (from, to) = (format!("oci:{}:t", layout.display()), self.registry.reference(&name, "t"));
        let flags = ["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"];
        run(skopeo(&flags).args([from, to])).ok();
        format!("{}/{name}:t", self.registry.address)
    }

    /// Pulls an image. Dropping this value removes the image.
    pub fn pull(&self, reference: &str) -> Output {
        self.owns(reference);
        run(&mut self.command(&["pull", reference]))
    }

    /// Registers an image that dropping this value removes.
    pub fn owns(&self, reference: &str) {
        self.taken.lock().unwrap().push(reference.to_owned());
    }

    /// Returns the daemon's address.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Engine for Docker {
    fn configure(&self, command: &mut Command) {
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.settings.path());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.settings.path()).args(["--host", &self.host]).args(arguments);
        command
    }

    /// Loads the image from the registry.
    #[track_caller]
    fn load(&self, image: &Image<'_>, codec: &str) -> String {
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
