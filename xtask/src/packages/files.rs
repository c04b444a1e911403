//! The directory of the downloaded files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// Returns the path of the directory. The files have the names that they get in the Nix store.
pub(super) fn files() -> PathBuf {
    host::cache().join("packages/files")
}

/// Downloads into a temporary directory and moves the files to [`files`]: an interrupted download leaves no incomplete file.
pub(super) fn download(into: impl FnOnce(&Path) -> Result<Vec<(PathBuf, String)>>) -> Result<()> {
    let scratch = tempfile::tempdir_in(host::cache().join("packages"))?;
    for (from, name) in into(scratch.path())? {
        let to = files().join(name);
        std::fs::rename(&from, &to)
            .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
