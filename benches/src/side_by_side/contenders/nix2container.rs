//! nix2container: its program plans the layers and writes the image, and its skopeo reads the store again to push them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::contender::{Contender, Image, LAYERS};
use super::runner::Runner;
use crate::scenario::{Change, Push, Received};
use crate::side_by_side::closures::Info;
use crate::side_by_side::measure::{Usage, measure};

/// nix2container.
#[derive(Clone)]
pub(crate) struct Nix2container {
    pub(super) program: PathBuf,
    pub(super) skopeo: PathBuf,
    pub(super) form: Form,
}

/// Way in which nix2container is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One layer list, and the codec and level of the other contenders.
    Flat,
    /// The same codec, with an image that users have split by hand: the app's references are a separate layer list, which
    /// Nix does not build again while it is unchanged.
    Nested,
    /// No compression option: gzip at its skopeo's default level.
    Defaults,
}

impl Nix2container {
    /// Returns the start of its skopeo's copy command for the image that was built; the caller adds the destination.
    pub(crate) fn copy(&self, runner: &Runner, tag: &str) -> Command {
        let mut copy = runner.skopeo_copy(&self.skopeo);
        copy.arg(format!("nix:{}", runner.spec(tag).display()));
        copy
    }

    fn layers_command(&self, output: &Path, graph: &Path, layers: usize) -> Command {
        nix2container_layers(&self.program, output, graph, layers)
    }
}

/// Returns nix2container's command that plans the layers of a closure.
pub(crate) fn nix2container_layers(program: &Path, output: &Path, graph: &Path, layers: usize) -> Command {
    let mut command = Command::new(program);
    command.arg("layers-from-reproducible-storepaths").arg(output).arg(graph);
    command.args(["--max-layers", &layers.to_string()]);
    command
}

impl Contender for Nix2container {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Flat => "nix2container",
            Form::Nested => "nix2container nested by hand",
            Form::Defaults => "nix2container (default gzip)",
        }
    }

    fn build(&self, runner: &Runner, built: &Image<'_>) -> Result<Usage> {
        let closure = built.closure;
        let layers = runner.path("layers.json");
        let config = runner.path("config.json");
        fs::write(&config, "{}")?;
        let mut image = Command::new(&self.program);
        image.arg("image").arg(runner.spec(&built.tag)).arg(config);
        if self.form != Form::Nested {
            return Ok(
                measure(&self.layers_command(&layers, &closure.file, LAYERS))? + measure(image.arg(layers))?
            );
        }
        let mut usage = Usage::default();
        let below: Vec<&Info> = closure.infos.iter().filter(|info| info.path != closure.root).collect();
        let text = serde_json::to_string(&below)?;
        let (graph, deps) = (runner.path("deps-graph.json"), runner.path("deps.json"));
        if fs::read_to_string(&graph).ok().as_ref() != Some(&text) {
            fs::write(&graph, &text)?;
            usage = usage + measure(&self.layers_command(&deps, &graph, LAYERS - 1))?;
        }
        let mut app = self.layers_command(&layers, &closure.file, 1);
        usage = usage + measure(app.arg(&deps))?;
        Ok(usage + measure(image.arg(deps).arg(layers))?)
    }

    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let mut copy = self.copy(runner, &image.tag);
        if self.form != Form::Defaults {
            copy.args(["--dest-compress-format", image.codec.name(), "--dest-compress-level", "1"]);
        }
        measure(copy.arg(runner.destination(&image.tag)))
    }

    fn takes(&self, push: &Push) -> bool {
        // On a fresh runner, all forms do the same work.
        match self.form {
            Form::Flat => !push.received.is_from_push(),
            Form::Nested => {
                !push.fresh || matches!((push.change, push.received), (Change::Leaf(_), Received::Nothing))
            }
            Form::Defaults => !push.fresh && matches!(push.change, Change::None | Change::Leaf(_)),
        }
    }
}
