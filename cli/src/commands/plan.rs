//! `nixply plan`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::{Input, Machine, human};

/// Show the layers that an image would have, without packing anything
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    machine: Machine,

    /// Print JSON: a list of {size, paths}, as builtins.nixplyPlan gives it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (request, closure) = args.input.read()?;
    let plan = request.plan(&closure, &args.machine.store())?;
    let base = plan.base.iter().map(|layer| (layer.size, layer.paths.iter().collect::<Vec<_>>()));
    let own = plan.layers.iter().map(|layer| (layer.nar_size(&closure), layer.paths.iter().collect()));
    let layers: Vec<_> = base.chain(own).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        let layer = |(size, paths): &(u64, Vec<_>)| {
            let paths: Vec<_> =
                paths.iter().map(|path: &&nixply_packer::plan::PlannedPath| path.path.as_str()).collect();
            json!({"size": size, "paths": paths})
        };
        writeln!(out, "{}", serde_json::Value::from(layers.iter().map(layer).collect::<Vec<_>>()))?;
        return Ok(());
    }
    for (at, (size, paths)) in layers.iter().enumerate() {
        writeln!(out, "layer {}: {} paths, {}", at + 1, paths.len(), human(*size))?;
        for path in paths {
            writeln!(out, "  {}", path.path)?;
        }
    }
    Ok(())
}
