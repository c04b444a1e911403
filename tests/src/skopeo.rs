//! Runs the program under the name `skopeo`, through a symlink.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engines::Directory;
use crate::nix::Nix;

/// A symlink `skopeo` to the program, in a directory that comes first on PATH.
pub struct SkopeoLink<'n> {
    nix: &'n Nix,
    /// The link's directory.
    pub directory: Directory,
}

impl<'n> SkopeoLink<'n> {
    /// Creates the link.
    pub fn new(nix: &'n Nix) -> Self {
        let directory = Directory::new();
        symlink(&nix.cli, directory.join("skopeo")).unwrap();
        Self { nix, directory }
    }

    /// Returns the link's path.
    pub fn program(&self) -> PathBuf {
        self.directory.join("skopeo")
    }

    /// Sets a command's environment: the Nix's, with the link first on PATH and without the user's
    /// `NIXPLY_SKOPEO`.
    pub fn set_up(&self, command: &mut Command) {
        command.envs(self.nix.environment("")).env_remove("NIXPLY_SKOPEO");
        command.env("PATH", self.path(std::env::var_os("PATH").unwrap_or_default()));
    }

    /// Returns a PATH that begins with the link's directory.
    pub fn path(&self, rest: impl AsRef<OsStr>) -> OsString {
        let mut path = self.directory.path().as_os_str().to_owned();
        path.push(":");
        path.push(rest);
        path
    }

    /// Returns a command that runs the link.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        self.set_up(&mut command);
        command.args(arguments);
        command
    }

    /// Returns `skopeo copy` from a spec, followed by these arguments.
    pub fn copy(&self, spec: &Path, rest: &[&str]) -> Command {
        let mut command = self.command(&["--insecure-policy", "copy"]);
        command.arg(source(spec)).args(rest);
        command
    }
}

/// Returns the source argument `nix:SPEC`.
pub fn source(spec: &Path) -> OsString {
    let mut source = OsString::from("nix:");
    source.push(spec);
    source
}
