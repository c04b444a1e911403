//! `nixply validate`.

mod layout;
mod remote;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nixply_documents::wording;
use nixply_oci::DiffId;
use nixply_packer::image::{LayerFile, Measured};
use nixply_packer::{Control, ImageSpec, Layer, Packer};
use nixply_planning::Store;
use nixply_reports::validate::{self, Validation};
use serde_json::json;

use crate::arguments::{OutsideStoreArgs, RegistryArgs, StoreArgs, Verbosity};
use crate::documents::{Content, SpecFile};
use crate::exit_codes;
use crate::output::print;
use crate::process::stop_flag;
use crate::terminal::{PackingProgress, Page, count, human, say};

/// Check an image: recompute every digest, size, diff_id and media type
///
/// Packs the layers of a spec, or reads the blobs of an OCI layout or of an image in a registry, with all images of an index. Prints a
/// line per problem. The exit code is 1 if there is a problem.
///
/// Example: nixply validate ghcr.io/team/app:1.0
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Spec of an image or of an image index (image.json or a result link), OCI layout directory, or an image in a registry, such as ghcr.io/team/app:1.0
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    outside_store: OutsideStoreArgs,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Prints the problems, and returns the exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let validation = if let Some(reference) = crate::remote::reference(&args.image)? {
        remote::validate(args, &reference)?
    } else if args.image.join("oci-layout").is_file() {
        layout::validate(&args.image)?
    } else {
        specs(args)?
    };
    let Validation { images, layers, size, problems } = &validation;
    if args.json {
        let result = json!({
            "version": 1, "valid": problems.is_empty(), "images": images, "layers": layers, "size": size,
            "problems": problems,
        });
        print(format!("{result}\n"))?;
    } else {
        let mut page = Page::default();
        problems.iter().for_each(|problem| page.line(problem.to_string()));
        print(page)?;
    }
    if !args.verbosity.quiet {
        let result = if problems.is_empty() { "valid".to_owned() } else { count(problems.len(), "problem") };
        let read = format!("{} with {} ({})", count(*images, "image"), count(*layers, "layer"), human(*size));
        say(format!("{read}: {result}"));
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit_codes::USER_ERROR) })
}

/// Validates the spec of an image or of an index: packs its layers, and reads those that are kept in files.
fn specs(args: &Args) -> Result<Validation> {
    let store = args.store.store_of(&args.image);
    let file = SpecFile::read_content_to_pack(&args.image, store, args.outside_store.files())?;
    let stop = stop_flag()?;
    let progress = PackingProgress::new(args.verbosity.quiet);
    let control = Control::new(&stop, &progress);
    // Without a cache: its digests may be those of the spec.
    let packer = args.store.packer(None);
    let name = wording::path(&args.image).to_string();
    let named = |spec: &ImageSpec| match file.spec {
        Content::Image(_) => name.clone(),
        Content::Index(_) => format!("{name} ({})", spec.platform()),
    };
    let mut all = Validation::default();
    for spec in file.spec.images() {
        let measured = measured(spec, &file.store, &packer, &control)?;
        let validation = validate::spec(&named(spec), spec, &measured);
        all.images += validation.images;
        all.layers += validation.layers;
        all.size += validation.size;
        all.problems.extend(validation.problems);
    }
    progress.clear();
    Ok(all)
}

fn measured(
    spec: &ImageSpec,
    store: &Store,
    packer: &Packer,
    control: &Control<'_>,
) -> Result<Vec<Measured>> {
    let mut all: Vec<Option<Measured>> = vec![None; spec.layers.len()];
    let mut codecs: Vec<String> = Vec::new();
    for (at, layer) in spec.layers.iter().enumerate() {
        match &layer.layer_path {
            Some(path) => {
                let mut file = LayerFile::open(path, store)?.into_reader();
                let read = Measured::of(&mut file);
                all[at] = Some(read.with_context(|| format!("cannot read layer file {path}"))?);
            }
            None => codecs.push(codec(layer)),
        }
    }
    codecs.sort();
    codecs.dedup();
    for name in codecs {
        let packed = |(_, layer): &(usize, &Layer)| layer.kept_codec().is_none() && codec(layer) == name;
        let layers: Vec<(usize, &Layer)> = spec.layers.iter().enumerate().filter(packed).collect();
        let paths = layers.iter().map(|(_, layer)| packer.layer_paths(layer, store));
        let paths = paths.collect::<nixply_packer::Result<Vec<_>>>()?;
        let codec = name.parse()?;
        for ((at, _), packed) in layers.iter().zip(packer.pack(&paths, codec, &(), control)?) {
            let diff_id: DiffId = packed.diff_id;
            all[*at] =
                Some(Measured { digest: packed.digest, size: packed.size, codec, diff_id: Ok(diff_id) });
        }
    }
    Ok(all.into_iter().map(|measured| measured.expect("every layer was read or packed")).collect())
}

/// Returns the codec that packs a layer, with its level.
fn codec(layer: &Layer) -> String {
    layer.compression.unwrap_or_default().to_string()
}
