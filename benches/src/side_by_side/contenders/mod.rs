//! The tools that are compared. Each builds an image of a closure and pushes it to a registry, in the way its users do.

mod buildah;
mod nix2container;
mod nixply;
mod runner;
mod tar;

use std::path::PathBuf;

use anyhow::Result;
use xtask::host::{self, say};

use self::buildah::Buildah;
use self::nix2container::Form;
pub(crate) use self::nix2container::{Nix2container, nix2container_layers};
pub(crate) use self::nixply::{Nixply, request};
pub(crate) use self::runner::Runner;
pub(crate) use self::tar::TAR;
use self::tar::Tar;
use super::closures::Closure;
use super::measure::Usage;
use crate::scenario::Push;

/// Codec of the layers. All contenders compress at level 1, because their defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Codec {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// The name that skopeo and buildah use.
    fn format(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The name in results, with the level.
    pub(crate) fn name(self) -> String {
        format!("{}:1", self.format())
    }
}

/// A tool that is compared.
pub(crate) trait Contender {
    /// Its name in results.
    fn name(&self) -> &'static str;

    /// Number of layers of its images.
    fn layers(&self) -> usize {
        LAYERS
    }

    /// Builds the image.
    fn build(&self, runner: &Runner, closure: &Closure, codec: Codec, tag: &str) -> Result<Usage>;

    /// Imports the spec of a former image, if the tool can use it.
    fn learn(&self, _runner: &Runner, _tag: &str) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Pushes the image that was built.
    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage>;

    /// Returns whether this push shows something that the tool's other pushes do not show.
    fn takes(&self, _: &Push) -> bool {
        true
    }

    /// Returns whether one run is enough, because the tool only shows an order of magnitude.
    fn is_slow(&self) -> bool {
        false
    }
}

/// The maximum number of layers in an image.
pub(crate) const LAYERS: usize = 100;

/// Paths of the contenders' programs.
#[derive(Clone, clap::Args)]
pub(crate) struct Programs {
    /// nix2container's program [default: the one on PATH]
    #[arg(long, value_name = "PATH")]
    nix2container: Option<PathBuf>,

    /// skopeo with nix2container's nix: transport [default: skopeo-nix2container on PATH]
    #[arg(long, value_name = "PATH")]
    nix2container_skopeo: Option<PathBuf>,

    /// skopeo for all other contenders [default: the one on PATH]
    #[arg(long, value_name = "PATH", default_value = "skopeo", hide_default_value = true)]
    pub skopeo: PathBuf,

    /// Exclude a contender from the pushes, by its name in the tables; may be repeated
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
}

impl Programs {
    /// Returns nix2container's program, if it is installed.
    pub(crate) fn nix2container(&self) -> Option<PathBuf> {
        self.nix2container.clone().or_else(|| on_path("nix2container"))
    }

    /// Returns nix2container's skopeo, if it is installed.
    pub(crate) fn nix2container_skopeo(&self) -> Option<PathBuf> {
        self.nix2container_skopeo.clone().or_else(|| on_path("skopeo-nix2container"))
    }

    /// Returns nix2container with its skopeo, or prints which options name them.
    pub(crate) fn nix2container_contender(&self) -> Option<Nix2container> {
        let programs = self.nix2container().zip(self.nix2container_skopeo());
        if programs.is_none() {
            say("skipping nix2container: pass --nix2container and --nix2container-skopeo to include it");
        }
        programs.map(|(program, skopeo)| Nix2container { program, skopeo, form: Form::Flat })
    }

    /// Returns the available contenders in the order of their turns, and prints the missing ones.
    pub(crate) fn contenders(&self, nixply: &Nixply) -> Vec<Box<dyn Contender>> {
        let mut all: Vec<Box<dyn Contender>> = vec![Box::new(nixply.clone())];
        if let Some(flat) = self.nix2container_contender() {
            for form in [Form::Flat, Form::Nested, Form::Defaults] {
                all.push(Box::new(Nix2container { form, ..flat.clone() }));
            }
        }
        match on_path("buildah").filter(|_| host::is_root()) {
            Some(program) => all.push(Box::new(Buildah { program })),
            None => say("skipping buildah: it needs root, and the package buildah"),
        }
        all.push(Box::new(Tar { skopeo: self.skopeo.clone() }));
        all.retain(|contender| !self.without.iter().any(|name| name == contender.name()));
        all
    }
}

/// Looks up a program on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Returns the closure's paths relative to the root directory, one a line, for tar.
pub(crate) fn path_list(closure: &Closure) -> String {
    closure.infos.iter().map(|info| format!("{}\n", info.path.trim_start_matches('/'))).collect()
}
