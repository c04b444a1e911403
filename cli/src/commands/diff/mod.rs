//! `nixply diff`.

mod report;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nixply_packer::ImageSpec;
use nixply_planning::{Closure, Store};
use nixply_reports::diff::{Diff, PathFacts};

use crate::arguments::{ReportArgs, store_dir_of, unless_empty, values};
use crate::{documents, nix};

/// Compare two images: changed store paths, new layers, cost of push and pull
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Spec of the old image (image.json or a result link)
    #[arg(value_name = "OLD.json")]
    old: PathBuf,

    /// Spec of the new image
    #[arg(value_name = "NEW.json")]
    new: PathBuf,

    /// Closure of the old image as JSON (nix path-info --json --recursive), for the sizes of paths [default: ask Nix; unknown
    /// sizes are omitted]
    #[arg(long, value_name = "FILE")]
    old_closure: Option<PathBuf>,

    /// Closure of the new image; also shows why paths have changed
    #[arg(long, value_name = "FILE")]
    new_closure: Option<PathBuf>,

    /// Store directory that store paths start with [default: the directory of each image's spec if that is a store, otherwise
    /// /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    #[command(flatten)]
    report: ReportArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Requests do not work here: the digests of their layers are unknown.
    let (old, new) = (documents::spec(&args.old)?, documents::spec(&args.new)?);
    let mut facts = PathFacts::default();
    for (spec, file, closure) in [(&old, &args.old, &args.old_closure), (&new, &args.new, &args.new_closure)]
    {
        let closure = match closure {
            Some(closure) => Some(documents::closure(closure, &store(args, file))?),
            None => known_closure(&store(args, file), spec),
        };
        closure.iter().for_each(|closure| facts.add(closure));
    }
    let diff = Diff::new(&old, &new, &facts);
    let names = [&args.old, &args.new].map(|file| file.display().to_string());
    args.report.print(&diff, || report::of(&diff, &names, args.report.most()))
}

/// Returns the store of the image whose spec is `file`.
fn store(args: &Args, file: &Path) -> Store {
    args.store_dir.clone().unwrap_or_else(|| Store::at(store_dir_of(file)))
}

/// Asks Nix for the image's store paths. Some paths of an old image may have been deleted.
fn known_closure(store: &Store, spec: &ImageSpec) -> Option<Closure> {
    let paths = spec.layers.iter().flat_map(|layer| &layer.paths).map(|path| &path.path);
    let there = paths.filter(|path| fs::symlink_metadata(store.real_path(path)).is_ok());
    nix::closure_if_known(there.map(|path| path.as_str()))
}
