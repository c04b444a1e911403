//! Nix stores of the chores, which are separate from the user's: one in the cache directory for each Nix.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::host;
use crate::nix::Nix;
use crate::packages::{self, Lock};

/// The store of one Nix.
pub struct Store {
    /// The directory with `store`, `var`, `log` and `etc`.
    pub root: PathBuf,
    bin: PathBuf,
}

impl Store {
    /// Opens the store of `nix` and adds the files of the package set.
    pub fn open(nix: &Nix, lock: &Lock) -> Result<Self> {
        let store = Self::plain(nix, host::cache().join("stores").join(&nix.name))?;
        packages::add_to_store(lock, |program| store.command(program, ""))?;
        Ok(store)
    }

    /// Opens a store below `root` without adding files.
    pub fn plain(nix: &Nix, root: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(root.join("etc"))?;
        Ok(Self { root, bin: nix.bin.clone() })
    }

    /// Returns a command of this Nix that uses this store, with additional lines of nix.conf.
    pub fn command(&self, program: &str, config: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        for (variable, directory) in [
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "var"),
            ("NIX_LOG_DIR", "log"),
            ("NIX_CONF_DIR", "etc"),
        ] {
            command.env(variable, self.root.join(directory));
        }
        command.env("XDG_CACHE_HOME", self.root.join("cache")).env("NIX_REMOTE", "").env("NIX_PATH", "");
        // Only root can have build users and a sandbox.
        let sandbox = if host::is_root() { "true" } else { "false" };
        command.env(
            "NIX_CONFIG",
            format!(
                "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = {sandbox}\n\
                 sandbox-paths = /bin /lib /lib64 /usr\n{config}"
            ),
        );
        command
    }
}
