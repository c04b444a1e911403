//! The flag for the directory of packed layers.

use std::path::PathBuf;

use crate::temporary;

/// The flag for the directory of packed layers.
#[derive(clap::Args)]
pub(crate) struct ScratchArgs {
    /// Directory for packed layers that are not in the cache; needs space for the compressed images [default: TMPDIR, otherwise
    /// /var/tmp]
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
}

impl ScratchArgs {
    /// Returns the directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch_dir.clone().unwrap_or_else(temporary::large_files)
    }
}
