//! `nixply diff`.

mod remote;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use nixply_packer::ImageSpec;
use nixply_packer::image::IndexSpec;
use nixply_planning::{Closure, Store};
use nixply_reports::diff::{Diff, IndexDiff, PathFacts};

use crate::arguments::{PlatformArgs, RegistryArgs, ReportArgs, store_dir_of, unless_empty, values};
use crate::documents::Content;
use crate::{documents, nix};

/// Compare two images: changed store paths, new layers, cost of push and pull
///
/// Compares two image indexes platform by platform, and an image with the image of an index for the same platform.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Spec of the old image or image index (image.json or a result link), or an image in a registry, such as ghcr.io/team/app:1.0.
    /// A registry does not know store paths: then only layers and settings are compared
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The new image or image index
    #[arg(value_name = "NEW")]
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

    #[command(flatten)]
    platform: PlatformArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let references = [crate::remote::reference(&args.old)?, crate::remote::reference(&args.new)?];
    if references.iter().any(Option::is_some) {
        return remote::run(args, &references);
    }
    // Requests do not work here: the digests of their layers are unknown.
    let (old, new) = (documents::content(&args.old)?, documents::content(&args.new)?);
    let mut facts = PathFacts::default();
    for (content, file, closure) in
        [(&old, &args.old, &args.old_closure), (&new, &args.new, &args.new_closure)]
    {
        let closure = match closure {
            Some(closure) => Some(documents::closure(closure, &store(args, file))?),
            None => known_closure(&store(args, file), content),
        };
        closure.iter().for_each(|closure| facts.add(closure));
    }
    let names = [&args.old, &args.new].map(|file| file.display().to_string());
    let (old, new) = match (&old, &new) {
        (Content::Index(old), Content::Index(new)) => {
            let diff = IndexDiff::new(old, new, &facts);
            return args.report.print(&diff, || report::of_index(&diff, &names, args.report.most()));
        }
        (Content::Index(old), Content::Image(new)) => (counterpart(old, &args.old, new)?, new),
        (Content::Image(old), Content::Index(new)) => (old, counterpart(new, &args.new, old)?),
        (Content::Image(old), Content::Image(new)) => (old, new),
    };
    let diff = Diff::new(old, new, &facts);
    args.report.print(&diff, || report::of(&diff, &names, args.report.most()))
}

/// Returns the image of an index for the platform of another image.
fn counterpart<'i>(index: &'i IndexSpec, file: &Path, image: &ImageSpec) -> Result<&'i ImageSpec> {
    let found = index.counterpart(image).map(|image| &image.spec);
    found.ok_or_else(|| {
        let titles: Vec<_> = index.images.iter().map(|image| image.title()).collect();
        let (name, platform) = (documents::name_of(file), image.platform());
        anyhow!(
            "{name} has no image for {platform}, the platform of the other image; it has {}",
            titles.join(", ")
        )
    })
}

/// Returns the store of the image whose spec is `file`.
fn store(args: &Args, file: &Path) -> Store {
    args.store_dir.clone().unwrap_or_else(|| Store::at(store_dir_of(file)))
}

/// Asks Nix for the store paths of an image or an index. Some paths of an old image may have been deleted.
fn known_closure(store: &Store, content: &Content) -> Option<Closure> {
    let paths = content.layers().flat_map(|layer| &layer.paths).map(|path| &path.path);
    let there = paths.filter(|path| fs::symlink_metadata(store.real_path(path)).is_ok());
    nix::closure_if_known(there.map(|path| path.as_str()))
}
