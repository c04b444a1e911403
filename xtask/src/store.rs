//! A Nix store of the chores' own, beside the user's: below the cache, one for each Nix.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::host;
use crate::nix::Nix;
use crate::packages::{self, Lock};

/// The store of one Nix.
pub(crate) struct Store {
    /// `store`, `var`, `log` and `etc` lie below it.
    pub root: PathBuf,
    bin: PathBuf,
}

impl Store {
    /// The store for `nix`, with the package set's files in it.
    pub(crate) fn open(nix: &Nix, lock: &Lock) -> Result<Self> {
        let store = Self::plain(nix, host::cache().join("stores").join(&nix.name))?;
        packages::add_to_store(lock, |program| store.command(program, ""))?;
        Ok(store)
    }

    /// A store below `root`, as it is.
    pub(crate) fn plain(nix: &Nix, root: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(root.join("etc"))?;
        Ok(Self { root, bin: nix.bin.clone() })
    }

    /// A program of the Nix, working on this store, with further lines of nix.conf.
    pub(crate) fn command(&self, program: &str, config: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        for (variable, folder) in [
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "var"),
            ("NIX_LOG_DIR", "log"),
            ("NIX_CONF_DIR", "etc"),
        ] {
            command.env(variable, self.root.join(folder));
        }
        command.env("XDG_CACHE_HOME", self.root.join("cache")).env("NIX_REMOTE", "").env("NIX_PATH", "");
        // Without root there is neither a build user nor a sandbox.
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
