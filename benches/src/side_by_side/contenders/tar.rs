//! A plain archive: tar writes one layer, skopeo compresses and pushes it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::contender::{Contender, Image};
use super::runner::Runner;
use crate::scenario::{Change, Push, Received};
use crate::side_by_side::closures::tree;
use crate::side_by_side::measure::{Usage, measure};

/// GNU tar with the metadata of image layers.
pub(crate) const TAR: &str = "tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner";

/// tar and skopeo.
pub(super) struct Tar {
    pub(super) skopeo: PathBuf,
}

impl Contender for Tar {
    fn name(&self) -> &'static str {
        "tar and skopeo"
    }

    fn layers(&self, _: &Image<'_>) -> usize {
        1
    }

    fn build(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let (directory, list) = (runner.path("archive"), runner.path("paths.list"));
        if directory.exists() {
            tree::remove_tree(&directory)?;
        }
        fs::create_dir(&directory)?;
        fs::write(&list, image.closure.tar_list())?;
        let script = format!(
            "{tar} -C / -cf - -T {list} | tee layer.tar | sha256sum > digest\n\
             printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' \
             $(cut -d' ' -f1 digest) > config.json\n\
             printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"bench:{tag}\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json\n\
             tar -cf image.tar manifest.json config.json layer.tar\nrm layer.tar",
            tag = image.tag,
            tar = TAR,
            list = list.display()
        );
        measure(Command::new("sh").arg("-euc").arg(script).current_dir(directory))
    }

    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let mut copy = runner.skopeo_copy(&self.skopeo);
        copy.args([
            "--format",
            "oci",
            "--dest-compress-format",
            image.codec.name(),
            "--dest-compress-level",
            "1",
        ]);
        let archive = runner.path("archive/image.tar");
        ensure!(archive.exists(), "the archive was not built");
        copy.env("TMPDIR", runner.directory.path());
        measure(copy.arg(format!("docker-archive:{}", archive.display())).arg(runner.destination(&image.tag)))
    }

    fn takes(&self, push: &Push) -> bool {
        // tar repeats all work for every change.
        push.received == Received::Nothing
            && matches!((push.change, push.fresh), (Change::None, false) | (Change::Leaf(_), _))
    }

    fn is_slow(&self) -> bool {
        true
    }
}
