//! The tools that are compared. Each builds an image of a closure and pushes it to a registry, in the way its users do.

mod buildah;
mod contender;
mod nix2container;
mod nixply;
mod nixply_push;
mod runner;
mod tar;

use std::path::PathBuf;

use xtask::host::{self, say};

use self::buildah::Buildah;
pub(crate) use self::contender::{CODECS, Contender, GZIP, Image, LAYERS, ZSTD};
use self::nix2container::Form;
pub(crate) use self::nix2container::{Nix2container, nix2container_layers};
pub(crate) use self::nixply::{Nixply, request};
use self::nixply_push::NixplyPush;
pub(crate) use self::runner::Runner;
pub(crate) use self::tar::TAR;
use self::tar::Tar;

/// Paths of the contenders' programs.
#[derive(Clone, clap::Args)]
pub(crate) struct Programs {
    /// nixply's program [default: a release build of this working tree]
    #[arg(long, value_name = "PATH")]
    pub nixply: Option<PathBuf>,

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
        self.nix2container.clone().or_else(|| which::which("nix2container").ok())
    }

    /// Returns nix2container's skopeo, if it is installed.
    pub(crate) fn nix2container_skopeo(&self) -> Option<PathBuf> {
        self.nix2container_skopeo.clone().or_else(|| which::which("skopeo-nix2container").ok())
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
        let mut all: Vec<Box<dyn Contender>> =
            vec![Box::new(NixplyPush(nixply.clone())), Box::new(nixply.clone())];
        if let Some(flat) = self.nix2container_contender() {
            for form in [Form::Flat, Form::Nested, Form::Defaults] {
                all.push(Box::new(Nix2container { form, ..flat.clone() }));
            }
        }
        match which::which("buildah").ok().filter(|_| host::is_root()) {
            Some(program) => all.push(Box::new(Buildah { program })),
            None => say("skipping buildah: it needs root, and the package buildah"),
        }
        all.push(Box::new(Tar { skopeo: self.skopeo.clone() }));
        all.retain(|contender| !self.without.iter().any(|name| name == contender.name()));
        all
    }
}
