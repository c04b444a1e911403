//! The flag for layer files outside the store.

use crate::documents::LayerFiles;

/// The flag for layer files outside the store.
#[derive(clap::Args)]
pub(crate) struct OutsideStoreArgs {
    /// Allow layer files (`layer-path`) outside the store, as n2c image-from-dir writes them. Only for specs that you trust
    #[arg(long)]
    allow_outside_store: bool,
}

impl OutsideStoreArgs {
    /// Returns the places where layer files may be.
    pub(crate) fn files(&self) -> LayerFiles {
        if self.allow_outside_store { LayerFiles::Anywhere } else { LayerFiles::InStore }
    }
}
