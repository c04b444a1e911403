//! `nixply diff`.

mod report;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nixply_packer::closure::{Closure, Store};
use nixply_packer::diff::{Diff, Known};
use nixply_packer::image::spec::ImageSpec;

use super::{Printed, inputs, store_dir_of, unless_empty, values};
use crate::nix;

/// Show what has changed between two images, which layers move because of it, and what a push and a pull cost
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The spec of the image as it was (image.json, or a result link)
    #[arg(value_name = "OLD.json")]
    old: PathBuf,

    /// The spec of the image as it is
    #[arg(value_name = "NEW.json")]
    new: PathBuf,

    /// The old image's closure as JSON (nix path-info --json --recursive), for paths' sizes; without it nix is asked, and
    /// sizes that it does not know are left out
    #[arg(long, value_name = "FILE")]
    old_closure: Option<PathBuf>,

    /// The new image's closure, likewise; also for why paths have changed
    #[arg(long, value_name = "FILE")]
    new_closure: Option<PathBuf>,

    /// The store directory as store paths name it [default: that of each image's spec, if it lies in one, else /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    #[command(flatten)]
    printed: Printed,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // A request is not enough: nobody knows its layers' digests.
    let (old, new) = (inputs::spec(&args.old)?, inputs::spec(&args.new)?);
    let mut known = Known::default();
    for (spec, file, closure) in [(&old, &args.old, &args.old_closure), (&new, &args.new, &args.new_closure)]
    {
        let closure = match closure {
            Some(closure) => Some(inputs::closure(closure, &store(args, file))?),
            None => ask(&store(args, file), spec),
        };
        closure.iter().for_each(|closure| known.add(closure));
    }
    let diff = Diff::new(&old, &new, &known);
    let names = [&args.old, &args.new].map(|file| file.display().to_string());
    args.printed.print(&diff, || report::of(&diff, &names, args.printed.most()))
}

/// The store of an image whose spec is `file`.
fn store(args: &Args, file: &Path) -> Store {
    args.store_dir.clone().unwrap_or_else(|| Store::at(store_dir_of(file)))
}

/// What Nix knows of an image's paths; of an old image some may be gone.
fn ask(store: &Store, spec: &ImageSpec) -> Option<Closure> {
    let paths = spec.layers.iter().flat_map(|layer| &layer.paths).map(|path| &path.path);
    let there = paths.filter(|path| fs::symlink_metadata(store.real_path(path)).is_ok());
    nix::closure_if_known(there.map(|path| path.as_str()))
}
