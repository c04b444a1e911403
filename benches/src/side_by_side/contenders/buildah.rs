//! buildah: copies the store paths into a container and commits it. The app's dependencies are a separate image below the app's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::contender::{Contender, Image};
use super::runner::Runner;
use crate::scenario::{Change, Push, Received};
use crate::side_by_side::measure::{Usage, measure};

/// buildah.
pub(super) struct Buildah {
    pub(super) program: PathBuf,
}

impl Buildah {
    fn command(&self, runner: &Runner, shell: &str) -> Command {
        // buildah's storage needs root, so unlike skopeo it does not get `_CONTAINERS_ROOTLESS_UID`.
        let mut command = Command::new("sh");
        command.arg("-euc").arg(format!(
            "buildah() {{ {} --root {} --runroot {} \"$@\"; }}\n{shell}",
            self.program.display(),
            runner.path("containers").display(),
            runner.path("run").display(),
        ));
        command.env("TMPDIR", runner.directory.path());
        command
    }
}

impl Contender for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn layers(&self, _: &Image<'_>) -> usize {
        2
    }

    fn build(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let closure = image.closure;
        let list = runner.path("deps.list");
        let below = closure.infos.iter().filter(|info| info.path != closure.root);
        let text: String = below.map(|info| format!("{}\n", info.path)).collect();
        let mut usage = Usage::default();
        let store = Path::new(&closure.root).parent().context("the app is in a store")?;
        let add = |from: &str, copy: &str, name: &str| {
            format!(
                "c=$(buildah from {from})\nm=$(buildah mount $c)\nmkdir -p $m{store}\n{copy} $m{store}\n\
                 buildah umount $c\nbuildah commit --quiet --disable-compression $c {name}\nbuildah rm $c",
                store = store.display()
            )
        };
        if fs::read_to_string(&list).ok().as_ref() != Some(&text) {
            fs::write(&list, &text)?;
            let copy = format!("xargs -a {} cp -a -t", list.display());
            usage = usage + measure(&self.command(runner, &add("scratch", &copy, "deps")))?;
        }
        let copy = format!("cp -a {}", closure.root);
        Ok(usage + measure(&self.command(runner, &add("deps", &copy, &image.tag)))?)
    }

    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let tag = &image.tag;
        let push = format!(
            "buildah push --quiet --tls-verify=false --format oci --compression-format {} --compression-level 1 {tag} {}",
            image.codec.name(),
            runner.destination(tag)
        );
        // As root, buildah remembers pushed blobs in /var/lib/containers/cache. The mount gives each runner a separate list.
        let mounted = format!(
            "mkdir -p {cache}\nmkdir -p /var/lib/containers/cache\nmount --bind {cache} /var/lib/containers/cache\n{push}",
            cache = runner.path("blobs").display()
        );
        let mut unshared = Command::new("unshare");
        let inner = self.command(runner, &mounted);
        unshared.arg("--mount").arg(inner.get_program()).args(inner.get_args());
        measure(unshared.env("TMPDIR", runner.directory.path()))
    }

    fn takes(&self, push: &Push) -> bool {
        // On a fresh runner, buildah has no storage and repeats all work for every change, so one such push is enough.
        !push.fresh || matches!((push.change, push.received), (Change::Leaf(_), Received::Nothing))
    }

    fn is_slow(&self) -> bool {
        true
    }
}
