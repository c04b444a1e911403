//! Comparisons with images in registries. These do not know store paths, so layers and settings are compared.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::ImageSpec;
use nixply_registry::client::Reference;
use nixply_reports::diff::{Diff, PathFacts};

use super::{Args, counterpart, report};
use crate::documents::{self, Content};
use crate::remote;

/// Compares two images. At least one of them has a reference.
pub(super) fn run(args: &Args, references: &[Option<Reference>; 2]) -> Result<()> {
    let first = references.iter().flatten().next().expect("one image has a reference");
    let client = args.registry.client(first)?;
    let side = |word: &PathBuf, reference: &Option<Reference>| match reference {
        Some(reference) => {
            let read = remote::read(&client, reference, &args.platform);
            read.map(|(_, image)| Content::Image(image.spec)).map_err(|error| remote::explained(error, word))
        }
        None => documents::content(word),
    };
    let (old, new) = (side(&args.old, &references[0])?, side(&args.new, &references[1])?);
    let (old, new) = match (&old, &new) {
        (Content::Index(old), Content::Image(new)) => (counterpart(old, &args.old, new)?, new),
        (Content::Image(old), Content::Index(new)) => (old, counterpart(new, &args.new, old)?),
        (Content::Image(old), Content::Image(new)) => (old, new),
        (Content::Index(_), Content::Index(_)) => unreachable!("an image in a registry is one image"),
    };
    let (old, new) = (without_paths(old.clone()), without_paths(new.clone()));
    let diff = Diff::new(&old, &new, &PathFacts::default());
    let names = [&args.old, &args.new].map(|word| word.display().to_string());
    args.report.print(&diff, || report::of(&diff, &names, args.report.most()))
}

/// Removes the store paths: all of them would differ from an image that has none.
fn without_paths(mut spec: ImageSpec) -> ImageSpec {
    spec.layers.iter_mut().for_each(|layer| layer.paths.clear());
    spec
}
