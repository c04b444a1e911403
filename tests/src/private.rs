//! A store for one test. The test may empty it, damage it, or serve it with a daemon.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::nix::Nix;
use crate::run::{Output, run};

/// User ID of `nobody`, an unprivileged user.
pub const NOBODY: u32 = 65534;

/// A Nix with a store in a temporary directory that every user can read. Dropping the value removes the
/// directory.
pub struct Private {
    nix: Nix,
    directory: TempDir,
}

impl Deref for Private {
    type Target = Nix;

    fn deref(&self) -> &Nix {
        &self.nix
    }
}

impl Nix {
    /// Returns the same Nix with an empty store. The program and the plugin are copied to the store's
    /// directory, where every user can read them.
    pub fn private(&self) -> Private {
        let directory = TempDir::with_prefix("nixply-").expect("a temporary directory can be created");
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))
            .expect("this process owns it");
        let copy = |from: &Path| {
            let to = directory.path().join(from.file_name().expect("it is a file"));
            fs::copy(from, &to).unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
            to
        };
        let nix = Nix {
            root: directory.path().into(),
            plugin: self.plugin.as_deref().map(copy),
            cli: copy(&self.cli),
            ..self.clone()
        };
        fs::create_dir(nix.root.join("etc")).expect("the directory is empty");
        Private { nix, directory }
    }
}

impl Private {
    /// Returns the directory that contains everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes `body` with [`tiny`]'s names to a file of this name. `body` starts on the file's second line.
    pub fn file(&self, name: &str, body: &str) -> PathBuf {
        let file = self.directory().join(name);
        fs::write(&file, tiny(self, body)).expect("the directory is writable");
        file
    }

    /// Returns the names in the store, sorted.
    pub fn listing(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.store_dir()) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        // Names with a leading dot, such as `.links`, are Nix's own files.
        let mut names: Vec<_> = entries.map(name).filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    /// Returns the image specs in the store.
    pub fn images(&self) -> Vec<String> {
        self.listing()
            .into_iter()
            .filter(|name| name.contains("-image-") && name.ends_with(".json"))
            .collect()
    }

    /// Runs `nix eval --json` on an attribute of a file.
    #[track_caller]
    pub fn eval_file(&self, file: &Path, attribute: &str) -> Output {
        run(self.command("nix").args(["eval", "--json", "-f"]).arg(file).arg(attribute))
    }

    /// Runs `nix build` on an attribute of a file, with the result link `link` in [`Private::directory`].
    #[track_caller]
    pub fn build_file(&self, file: &Path, attribute: &str, link: &str) -> Output {
        let mut command = self.command("nix");
        command
            .args(["build", "-f"])
            .arg(file)
            .arg(attribute)
            .arg("--out-link")
            .arg(self.directory().join(link));
        run(&mut command)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Store paths are read-only, so only root could delete them.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.directory()).output();
    }
}

/// Returns `body` with names in scope that need no package set: `sh name script` is a derivation that runs the
/// script, and `buildImage` is the builder frontend. `body` starts on the second line.
pub fn tiny(nix: &Nix, body: &str) -> String {
    format!(
        "let sh = name: script: derivation {{ inherit name; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         PATH = \"/usr/bin:/bin\"; args = [ \"-c\" script ]; }}; \
         buildImage = import {repository}/nix/build-image.nix {{ \
         builder = \"${{builtins.path {{ path = {cli}; name = \"nixply\"; }}}}\"; usePlugin = false; }}; in\n{body}\n",
        repository = Nix::repository().display(),
        cli = nix.cli.display(),
    )
}
