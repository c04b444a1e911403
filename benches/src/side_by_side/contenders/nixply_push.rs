//! `nixply push`: `nixply build`, then nixply's own client sends the layers. Every push replaces the tag `latest`, as the pushes of a
//! branch do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::host::output;

use super::contender::{Contender, Image};
use super::nixply::Nixply;
use super::runner::Runner;
use crate::scenario::{Push, Received};
use crate::side_by_side::measure::{Usage, measure};

/// The tag of all images.
const TAG: &str = "latest";

/// The tag with the places of the compressed frames.
const FRAMES: &str = "frames";

/// nixply without skopeo.
pub(super) struct NixplyPush(pub(super) Nixply);

impl NixplyPush {
    fn push_command(&self, runner: &Runner, file: &Path) -> Command {
        let mut push = self.0.command("push");
        push.arg("--cache-dir").arg(runner.path("cache")).arg("--quiet");
        push.arg(file).arg(runner.reference(TAG));
        push
    }
}

impl Contender for NixplyPush {
    fn name(&self) -> &'static str {
        "nixply push"
    }

    fn prepare(&self, runner: &Runner, image: &Image<'_>) -> Result<()> {
        match image.received {
            Received::OwnSpec => {
                self.build(runner, image)?;
            }
            Received::Description => {
                let mut build = self.0.build_image(runner, image)?;
                output(build.arg("--description").arg(description(runner, image)))?;
            }
            Received::Frames => {
                let former = Image { tag: "former".into(), received: Received::Nothing, ..*image };
                output(&mut self.0.build_image(runner, &former)?)?;
                let mut push = self.push_command(runner, &runner.spec(&former.tag));
                output(push.arg("--cache-to").arg(runner.reference(FRAMES)))?;
            }
            Received::Nothing | Received::FormerSpec(_) | Received::FormerImage => {}
        }
        Ok(())
    }

    fn build(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let mut build = self.0.build_image(runner, image)?;
        match image.received {
            Received::FormerImage => {
                build.arg("--cache-from").arg(runner.reference(TAG));
            }
            Received::Frames => {
                build.arg("--cache-from").arg(runner.reference(FRAMES));
            }
            _ => {}
        }
        measure(&build)
    }

    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        match image.received {
            Received::Description => {
                let push = self.push_command(runner, &description(runner, image));
                measure(&without(&self.0.store_dir, &push)?)
            }
            _ => measure(&self.push_command(runner, &runner.spec(&image.tag))),
        }
    }

    fn takes(&self, push: &Push) -> bool {
        // The builds of fresh runners that receive nothing, or the spec of a former image, are those of nixply with skopeo.
        !push.fresh || !matches!(push.received, Received::Nothing | Received::FormerSpec(_))
    }
}

/// Returns the path of an image's description.
fn description(runner: &Runner, image: &Image<'_>) -> PathBuf {
    runner.spec(&format!("{}-description", image.tag))
}

/// Returns a command that finds an empty directory instead of the store.
fn without(store: &Path, command: &Command) -> Result<Command> {
    let store = store.to_str().context("the store's directory is not Unicode")?;
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-euc", "mount -t tmpfs -o mode=755 none \"$0\"\nexec \"$@\"", store]);
    hidden.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => hidden.env(name, value),
            None => hidden.env_remove(name),
        };
    }
    Ok(hidden)
}
