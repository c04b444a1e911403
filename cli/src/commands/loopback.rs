//! An image on loopback for another program of this machine, for as long as that runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use nixply_packer::cache::Cache;
use nixply_packer::image::spec::ImageSpec;
use nixply_registry::Error;
use nixply_registry::server::{Compression, Image, Options, Server};

use super::cache::CacheFlags;
use super::{Machine, serve};
use crate::terminal;
use crate::transfer::Watch;

/// What is said of machine and cache where a command line has no room for it: the environment's.
#[derive(Parser)]
pub(super) struct Settings {
    #[command(flatten)]
    pub(super) machine: Machine,

    #[command(flatten)]
    pub(super) cache: CacheFlags,
}

impl Settings {
    /// Those of the environment; `program` is who complains of what is wrong with them.
    pub(super) fn from_environment(program: &str) -> Result<Self, clap::Error> {
        Self::try_parse_from([program])
    }
}

/// A registry with one image.
pub(super) struct Loopback {
    server: Server,
    cache: Option<Cache>,
    watch: Option<Watch>,
    reference: String,
}

impl Loopback {
    /// Offers the image whose spec is `path`. `watch`, if there is one, tells what is read of it.
    pub(super) fn start(
        settings: &Settings,
        path: &Path,
        spec: ImageSpec,
        compression: Compression,
        watch: Option<Watch>,
    ) -> Result<Self> {
        let cache = settings.cache.open();
        let options = Options {
            compression,
            cache: cache.clone(),
            threads: settings.machine.jobs,
            check_store: settings.machine.check_store,
            scratch: serve::scratch_dir(),
            report: Arc::new(|error| terminal::error(error.chain())),
            observer: watch.as_ref().map_or_else(|| Arc::new(()) as _, Watch::observer),
            ..Options::new(settings.machine.store_of(path))
        };
        // It is in the other program's messages alone.
        let name = serve::default_name(path);
        let image = Image::new(&name, "latest", spec.clone())
            .or_else(|_| Image::new("image", "latest", spec))
            .map_err(known)?;
        let reference = image.reference();
        let server = Server::start(vec![image], options).map_err(known)?;
        Ok(Self { server, cache, watch, reference })
    }

    /// ADDRESS:PORT/NAME:TAG.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.server.address(), self.reference)
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> u64 {
        self.server.counts().requests
    }

    /// Ends it. If the other program has done well, what it has read is told.
    pub(super) fn stop(self, well: bool) {
        self.server.stop();
        if let Some(watch) = self.watch.filter(|_| well) {
            watch.finish();
        }
        self.cache.iter().for_each(Cache::trim);
    }
}

/// failure.rs knows the packer's errors by their type.
fn known(error: Error) -> anyhow::Error {
    match error {
        Error::Packer(error) => error.into(),
        error => error.into(),
    }
}
