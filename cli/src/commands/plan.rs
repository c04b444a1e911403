//! `nixply plan`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_packer::closure::Closure;
use nixply_packer::digest::Digest;
use nixply_packer::plan::PlannedPath;
use nixply_packer::request::{FleetRequest, ImagePlan, PlannedLayer};
use serde_json::{Value, json};

use super::layering::Layering;
use super::{Input, Machine, human, lock_file};
use crate::terminal::{Page, warning};

/// Show the layers that images would have, without packing anything; make and update lock files
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    layering: Layering,

    /// REQUEST.json is an object of images by name, as builtins.nixplyImages takes it: they are planned as one
    #[arg(long)]
    images: bool,

    /// Place paths as this lock file says, instead of the requests' own
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// Write the lock file anew: what has changed since it was written counts as seen, and paths move where that is expected to
    /// pay. Without such a file there will be one
    #[arg(long, requires = "lock")]
    update: bool,

    /// With --update: take an image out of the lock file, for good. Can be given several times
    #[arg(long, value_name = "IMAGE", requires = "update")]
    forget: Vec<String>,

    #[command(flatten)]
    machine: Machine,

    /// Print JSON: a list of {size, paths}, with a digest for a base image's layers, as builtins.nixplyPlan gives it; with
    /// --images an object of such lists
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.machine.store();
    let (mut fleet, closure) = match args.images {
        true => args.input.read_fleet(&store)?,
        false => {
            let (mut request, closure) = args.input.read(&store)?;
            let name = request.name.get_or_insert_with(|| "image".into()).clone();
            (FleetRequest::new(BTreeMap::from([(name, request)]))?, closure)
        }
    };
    fleet.images().values_mut().for_each(|request| args.layering.apply(request));
    let plans = match &args.lock {
        None => fleet.plan(&closure, &store),
        Some(file) => {
            let lock = match args.update {
                false => lock_file::existing(file)?,
                true => {
                    let mut former = lock_file::former(file)?.map(|file| file.lock);
                    lock_file::forget(former.as_mut(), file, &args.forget, "image")?;
                    let next = fleet.updated_lock(former.as_ref(), &closure, &store);
                    let next = next.with_context(|| file.display().to_string())?;
                    lock_file::write(file, &next.write())?;
                    next
                }
            };
            fleet.plan_with(Some(&lock), &closure, &store)
        }
    };
    let plans = args.input.within(plans)?;
    plans.values().flat_map(|plan| &plan.warnings).for_each(warning);
    if args.json {
        let lists = plans.iter().map(|(key, plan)| (key.clone(), layers_json(plan, &closure)));
        let value = match args.images {
            true => Value::Object(lists.collect()),
            false => lists.map(|(_, list)| list).next().unwrap_or_default(),
        };
        return super::print(format!("{value}\n"));
    }
    let mut out = Page::default();
    for (key, plan) in &plans {
        if args.images {
            out.line(format!("image {key}"));
        }
        tell(&mut out, plan, &closure);
    }
    super::print(out)
}

fn layers<'p>(plan: &'p ImagePlan, closure: &Closure) -> Vec<(u64, &'p [PlannedPath], Option<Digest>)> {
    let layer = |layer: &'p PlannedLayer| match layer {
        PlannedLayer::Made(layer) => (layer.size, &layer.paths[..], Some(layer.digest)),
        PlannedLayer::ToPack(layer) => (layer.nar_size(closure), &layer.paths[..], None),
    };
    plan.layers.iter().map(layer).collect()
}

fn layers_json(plan: &ImagePlan, closure: &Closure) -> Value {
    let layer = |(size, paths, digest): (u64, &[PlannedPath], Option<Digest>)| {
        let paths: Vec<_> = paths.iter().map(|path| path.path.as_str()).collect();
        let mut entry = json!({"size": size, "paths": paths});
        if let Some(digest) = digest {
            entry["digest"] = json!(digest);
        }
        entry
    };
    layers(plan, closure).into_iter().map(layer).collect()
}

fn tell(out: &mut Page, plan: &ImagePlan, closure: &Closure) {
    if plan.layers.is_empty() {
        out.line("the image has no layers: its request names no store path");
    }
    for (at, (size, paths, digest)) in layers(plan, closure).into_iter().enumerate() {
        let what = match digest {
            Some(digest) => format!("packed before, {digest}"),
            None => format!("{} path{}", paths.len(), if paths.len() == 1 { "" } else { "s" }),
        };
        out.line(format!("layer {}: {what}, {}", at + 1, human(size)));
        for path in paths {
            out.line(format!("  {}", path.path));
        }
    }
}
