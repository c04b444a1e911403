//! Fetches the store paths of a layer when the registry lacks its blob. An image's description names store paths that this machine
//! need not have.

use std::process::{Command, Stdio};

use anyhow::Result;
use nixply_packer::Layer;
use nixply_planning::{Store, StorePath};
use nixply_registry::content::RealisePaths;

use crate::failure::hinted;
use crate::process;
use crate::terminal::{count, say};

/// Fetches missing store paths with Nix.
pub(crate) struct Realise {
    store: Store,
}

impl Realise {
    /// Fetches store paths of this store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Fails if the store lacks paths of a layer whose blob has no recorded digest: all of them would be fetched only to find it.
    pub(crate) fn check<'l>(&self, layers: impl Iterator<Item = &'l Layer>) -> Result<()> {
        for (at, layer) in layers.enumerate() {
            if layer.compression.is_some() {
                continue;
            }
            if let Some(path) = layer.paths.iter().find(|path| self.is_missing(&path.path)) {
                let error = anyhow::anyhow!(
                    "cannot push layer {} without its store paths: the image was built without a compression, so the digest of its \
                     blob is unknown, and the store lacks {}",
                    at + 1,
                    path.path
                );
                let hint = "build the image with compression = \"zstd\" or \"gzip\", or realise its store paths with nix build";
                return Err(hinted(error, hint));
            }
        }
        Ok(())
    }

    fn is_missing(&self, path: &StorePath) -> bool {
        // A link in the store may lead nowhere.
        self.store.real_path(path).symlink_metadata().is_err()
    }
}

impl RealisePaths for Realise {
    fn realise(&self, layer: usize, paths: &[&StorePath]) -> Result<(), String> {
        let missing: Vec<_> = paths.iter().filter(|path| self.is_missing(path)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        say(format!(
            "layer {}: the registry lacks it; fetching {}",
            layer + 1,
            count(missing.len(), "store path")
        ));
        let mut nix = Command::new("nix-store");
        nix.arg("--realise").args(missing.iter().map(|path| path.as_str())).stdin(Stdio::null());
        let output = process::captured(&mut nix).map_err(|error| format!("cannot run nix-store: {error}"))?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr);
            let last = messages.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(format!("nix-store --realise failed with {}: {}", output.status, last.trim()));
        }
        Ok(())
    }
}
