//! `nixply plan`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_oci::Digest;
use nixply_packer::FleetRequest;
use nixply_packer::request::{ImagePlan, PlannedLayer};
use nixply_planning::{Closure, PlannedPath};
use serde_json::{Value, json};

use crate::arguments::{LayeringArgs, RequestArgs, StoreArgs};
use crate::documents::lock_file;
use crate::output::print;
use crate::terminal::{Page, count, human, warning};

/// Show the layers of images without packing; create and update lock files
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: RequestArgs,

    #[command(flatten)]
    layering: LayeringArgs,

    /// REQUEST.json is an object of image requests by name, like the argument of builtins.nixplyImages; plan the images together
    #[arg(long)]
    images: bool,

    /// Lock file that assigns paths to layers (overrides the requests' `lock`)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// Update the lock file, or create it: record what has changed since its last update, and move paths between layers where
    /// that is expected to pay off
    #[arg(long, requires = "lock")]
    update: bool,

    /// With --update: remove an image from the lock file permanently. Can be repeated
    #[arg(long, value_name = "IMAGE", requires = "update")]
    forget: Vec<String>,

    #[command(flatten)]
    store: StoreArgs,

    /// Print JSON: a list of {size, paths}, with a digest for layers of a base image, like the result of builtins.nixplyPlan. With
    /// --images, print an object of such lists
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.store.store();
    let (mut fleet, closure) = match args.images {
        true => args.request.read_fleet(&store)?,
        false => {
            let (mut request, closure) = args.request.read(&store)?;
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
                    let mut previous = lock_file::previous(file)?.map(|file| file.lock);
                    lock_file::forget(previous.as_mut(), file, &args.forget, "image")?;
                    let next = fleet.updated_lock(previous.as_ref(), &closure, &store);
                    let next = next.with_context(|| file.display().to_string())?;
                    lock_file::write(file, &next.write())?;
                    next
                }
            };
            fleet.plan_with(Some(&lock), &closure, &store)
        }
    };
    let plans = args.request.with_document_name(plans)?;
    plans.values().flat_map(|plan| &plan.warnings).for_each(warning);
    if args.json {
        let lists = plans.iter().map(|(key, plan)| (key.clone(), layers_json(plan, &closure)));
        let value = match args.images {
            true => Value::Object(lists.collect()),
            false => lists.map(|(_, list)| list).next().unwrap_or_default(),
        };
        return print(format!("{value}\n"));
    }
    let mut out = Page::default();
    for (key, plan) in &plans {
        if args.images {
            out.line(format!("image {key}"));
        }
        show(&mut out, plan, &closure);
    }
    print(out)
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

fn show(out: &mut Page, plan: &ImagePlan, closure: &Closure) {
    if plan.layers.is_empty() {
        out.line("the image has no layers: the request names no store path");
    }
    for (at, (size, paths, digest)) in layers(plan, closure).into_iter().enumerate() {
        let what = match digest {
            Some(digest) => format!("already packed, {digest}"),
            None => count(paths.len(), "path"),
        };
        out.line(format!("layer {}: {what}, {}", at + 1, human(size)));
        for path in paths {
            out.line(format!("  {}", path.path));
        }
    }
}
