//! The Nix expressions that the program evaluates: part of the program, so that both are always of one version.

use std::path::Path;

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use tempfile::TempDir;

use crate::temporary;

/// The folder `nix` without the tests' package set: build.rs copies it.
static EXPRESSIONS: Dir<'_> = include_dir!("$OUT_DIR/nix");

/// Files of their own for Nix, which go when this value goes.
pub(crate) struct Expressions(TempDir);

impl Expressions {
    /// Writes them.
    pub(crate) fn write() -> Result<Self> {
        let folder = temporary::folder("nixply-")?;
        let path = folder.path();
        EXPRESSIONS
            .extract(path)
            .with_context(|| format!("cannot write Nix expressions to {}", path.display()))?;
        Ok(Self(folder))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
