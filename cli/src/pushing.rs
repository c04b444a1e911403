//! Pushes the image or the image index of a spec to registries, for `nixply push` and `nixply container copy`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Error, Result};
use nixply_packer::{Cache, Codec};
use nixply_planning::StorePath;
use nixply_registry::Error as RegistryError;
use nixply_registry::client::{Client, Push, Pushed, Reference};
use nixply_registry::content::{Compression, Settings};

use crate::arguments::{CacheArgs, StoreArgs};
use crate::documents::{Content, SpecFile};
use crate::nix;
use crate::realise::Realise;
use crate::transfer::Watch;

/// How images are packed and pushed.
pub(crate) struct Pushing<'a> {
    pub(crate) store: &'a StoreArgs,
    pub(crate) cache: &'a CacheArgs,
    /// Codec of layers for which the spec records none.
    pub(crate) codec: Codec,
    /// Directory for layers that are packed without a cache.
    pub(crate) scratch: PathBuf,
    /// Tag that gets the index of the layers' frames.
    pub(crate) cache_to: Option<&'a Reference>,
    pub(crate) dry_run: bool,
    /// Adds the command's hints to an error.
    pub(crate) explain: fn(RegistryError) -> Error,
}

impl Pushing<'_> {
    /// Pushes an image or an image index to these tags. `watch` shows its layers. Passes the result of each repository to `done`.
    pub(crate) fn push(
        &self,
        client: &Client,
        file: &SpecFile<Content>,
        to: Vec<Reference>,
        watch: &Watch,
        done: &mut dyn FnMut(Pushed),
    ) -> Result<()> {
        let realise = Realise::new(file.store.clone());
        realise.check(file.spec.layers())?;
        let content = Settings {
            compression: Compression::Recorded(self.codec),
            cache: self.cache.open(),
            threads: self.store.jobs,
            check_store: self.store.check_store,
            scratch: self.scratch.clone(),
            observer: watch.observer(),
            realise: Arc::new(realise),
            ..Settings::new(file.store.clone())
        };
        let image = file.spec.clone().named("image", "latest").map_err(self.explain)?;
        let push = Push { image, to, content, cache_to: self.cache_to.cloned(), dry_run: self.dry_run };
        client.push(push, done).map_err(self.explain)
    }
}

/// Stores in the cache the archive hashes that Nix knows for the store paths of a spec. The derivation that built the image could not
/// access the cache; with the hashes, each layer is compressed only once, and its frames have keys. Failures only cost time.
pub(crate) fn remember_archives(file: &SpecFile<Content>, cache: &Cache) {
    let images = file.spec.images();
    let unknown: Vec<_> = images.iter().flat_map(|image| cache.without_archives(image)).collect();
    if let Some(closure) = nix::closure_if_known(unknown.into_iter().map(StorePath::as_str)) {
        images.into_iter().for_each(|image| cache.remember_archives(image, &closure));
    }
}
