//! A project with a devenv.nix, and `nixply container` in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::nix::Nix;
use crate::run::{Output, run};

/// A project in its own directory. Its `<nixpkgs>` is the package set.
pub struct Project<'n> {
    nix: &'n Nix,
    directory: TempDir,
    /// The directory of `<nixpkgs>`.
    packages: TempDir,
    /// Programs that come first on PATH.
    programs: TempDir,
}

impl<'n> Project<'n> {
    /// Creates an empty project.
    pub fn empty(nix: &'n Nix) -> Self {
        let directory = || tempfile::tempdir().expect("a temporary directory can be created");
        let project = Self { nix, directory: directory(), packages: directory(), programs: directory() };
        project.set_packages("{ }");
        project
    }

    /// Creates a project with this devenv.nix.
    pub fn new(nix: &'n Nix, devenv: &str) -> Self {
        let project = Self::empty(nix);
        project.write("devenv.nix", devenv);
        project
    }

    /// Copies one of `examples/containers/`.
    pub fn example(nix: &'n Nix, name: &str) -> Self {
        let project = Self::empty(nix);
        let from = Nix::repository().join("examples/containers").join(name).join(".");
        run(Command::new("cp").arg("-r").arg(from).arg(project.path())).ok();
        project
    }

    /// Adds packages to `<nixpkgs>`: the body of a set, with the package set as `pkgs`.
    pub fn set_packages(&self, more: &str) {
        let text = format!(
            "{{ system ? builtins.currentSystem, ... }}:\n\
             let pkgs = import {}/tests/packages {{ inherit system; lock = builtins.fromJSON (builtins.readFile {}); }};\n\
             in pkgs // {more}\n",
            Nix::repository().display(),
            self.nix.lock.display()
        );
        fs::write(self.packages.path().join("default.nix"), text).unwrap();
    }

    /// Returns the project's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds a shell script that comes first on PATH, and returns its path.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.programs.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Returns a command that runs `nixply` in the project's directory with these arguments.
    pub fn nixply<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.nix.cli);
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    /// Sets a command's environment: the project, its Nix and its packages. Loads the plugin if there is one.
    pub fn prepare(&self, command: &mut Command) {
        let plugin = self.nix.plugin.as_ref().map(|path| format!("plugin-files = {}\n", path.display()));
        self.prepare_with(command, &plugin.unwrap_or_default());
    }

    /// Like [`Project::prepare`], but with these lines of nix.conf. Nix loads a plugin only if they name one.
    pub fn prepare_with(&self, command: &mut Command, config: &str) {
        command.envs(self.nix.environment(config)).current_dir(self.path());
        command.env("NIX_PATH", format!("nixpkgs={}", self.packages.path().display()));
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = self.programs.path().display();
        command.env("PATH", format!("{programs}:{}:{path}", self.nix.bin.display()));
        command.env_remove("DOCKER_HOST").env_remove("NIXPLY_PROGRESS").env_remove("DEVENV_CONTAINER");
    }

    /// Runs `nixply container` with these arguments, separated by spaces.
    #[track_caller]
    pub fn container(&self, words: &str) -> Output {
        run(&mut self.nixply(["container"].into_iter().chain(words.split(' '))))
    }

    /// Builds a container and returns its spec.
    #[track_caller]
    pub fn build(&self, name: &str) -> PathBuf {
        self.container(&format!("build {name}")).ok().into()
    }

    /// Copies the files of a directory into the project.
    #[track_caller]
    pub fn add_files(&self, directory: &Path) {
        run(Command::new("cp").arg("-r").arg(directory.join(".")).arg(self.path())).ok();
    }

    /// Returns the directory of `<nixpkgs>`.
    pub fn packages(&self) -> &Path {
        self.packages.path()
    }
}
