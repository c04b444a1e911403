//! `nixply plan`.

use std::fmt::Write;

use anyhow::Result;
use nixply_packer::digest::Digest;
use nixply_packer::plan::PlannedPath;
use nixply_packer::request::PlannedLayer;
use serde_json::json;

use super::layering::Layering;
use super::{Input, Machine, human};
use crate::terminal::warning;

/// Show the layers that an image would have, without packing anything
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    layering: Layering,

    #[command(flatten)]
    machine: Machine,

    /// Print JSON: a list of {size, paths}, with a digest for a base image's layers, as builtins.nixplyPlan gives it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.machine.store();
    let (mut request, closure) = args.input.read(&store)?;
    args.layering.apply(&mut request);
    let plan = request.plan(&closure, &store)?;
    plan.warnings.iter().for_each(warning);
    let layers = plan.layers.iter().map(|layer| match layer {
        PlannedLayer::Made(layer) => (layer.size, &layer.paths, Some(layer.digest)),
        PlannedLayer::ToPack(layer) => (layer.nar_size(&closure), &layer.paths, None),
    });
    let layers: Vec<_> = layers.collect();
    let mut out = String::new();
    if args.json {
        let layer = |(size, paths, digest): &(u64, &Vec<PlannedPath>, Option<Digest>)| {
            let paths: Vec<_> = paths.iter().map(|path| path.path.as_str()).collect();
            let mut entry = json!({"size": size, "paths": paths});
            if let Some(digest) = digest {
                entry["digest"] = json!(digest);
            }
            entry
        };
        writeln!(out, "{}", serde_json::Value::from(layers.iter().map(layer).collect::<Vec<_>>()))?;
        return super::print(out);
    }
    for (at, (size, paths, digest)) in layers.iter().enumerate() {
        let what = match digest {
            Some(digest) => format!("packed before, {digest}"),
            None => format!("{} path{}", paths.len(), if paths.len() == 1 { "" } else { "s" }),
        };
        writeln!(out, "layer {}: {what}, {}", at + 1, human(*size))?;
        for path in *paths {
            writeln!(out, "  {}", path.path)?;
        }
    }
    super::print(out)
}
