//! A simulated machine on which a contender runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use xtask::host::say;
use xtask::services::{Registry, unmount_below};

use crate::side_by_side::closures::tree::remove_tree;

/// A simulated machine: a directory with all caches, and a registry.
pub(crate) struct Runner {
    /// The registry, which keeps its blobs when the runner is replaced.
    pub registry: Registry,
    /// Files that a fresh runner lacks.
    pub(super) directory: tempfile::TempDir,
    /// Specs of images, which a fresh runner may receive.
    specs: tempfile::TempDir,
}

impl Runner {
    /// Returns a fresh runner with an empty registry.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let directory = || tempfile::Builder::new().prefix("runner-").tempdir_in(scratch);
        Ok(Self { registry: Registry::start_in(scratch)?, directory: directory()?, specs: directory()? })
    }

    /// Replaces the runner by a fresh one and keeps the registry.
    pub(crate) fn forget(&self) -> Result<()> {
        unmount_below(self.directory.path());
        for entry in fs::read_dir(self.directory.path())? {
            remove_tree(&entry?.path())?;
        }
        Ok(())
    }

    /// Returns the path of one of the runner's files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the path of an image's spec.
    pub(super) fn spec(&self, tag: &str) -> PathBuf {
        self.specs.path().join(format!("{tag}.json"))
    }

    /// Returns the reference of an image in the registry.
    pub(super) fn reference(&self, tag: &str) -> String {
        format!("{}/bench:{tag}", self.registry.address)
    }

    /// Returns the image's place in the registry, for skopeo.
    pub(super) fn destination(&self, tag: &str) -> String {
        format!("docker://{}", self.reference(tag))
    }

    /// Returns a command that remembers pushed blobs in the runner's directory. Programs that use containers/image keep one list
    /// for the whole machine if root starts them. `_CONTAINERS_ROOTLESS_UID` makes them keep the list of an unprivileged user,
    /// which is below `XDG_DATA_HOME`.
    fn with_blob_cache(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("_CONTAINERS_ROOTLESS_UID", "1").env("XDG_DATA_HOME", self.path("data"));
        command
    }

    /// Returns the start of a `skopeo copy` command.
    pub(super) fn skopeo_copy(&self, program: &Path) -> Command {
        let mut command = self.with_blob_cache(program);
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Err(error) = self.forget() {
            say(format!("cannot remove a runner's files: {error:#}"));
        }
    }
}
