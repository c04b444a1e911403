//! `nixply pull`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow};
use nixply_registry::client::{Reference, Version};
use serde_json::json;

use crate::arguments::{PlatformArgs, RegistryArgs, Verbosity, reference as parse};
use crate::diagnosis;
use crate::failure::hinted;
use crate::output::print;
use crate::process::stop_flag;
use crate::terminal::{Downloading, count, human, say};

/// Pull an image from a registry into a directory
///
/// Writes the same files as skopeo copy docker://REFERENCE dir:DIR: the manifest and each blob as in the registry. Checks every size and
/// digest, reads several blobs at once, and continues after a broken connection. Prints the image as HOST/REPOSITORY@DIGEST.
///
/// Example: nixply pull docker.io/debian:bookworm debian --platform linux/arm64
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Image, such as docker.io/debian:bookworm or ghcr.io/team/app@sha256:...; the tag defaults to latest
    #[arg(value_name = "REFERENCE", value_parser = parse)]
    reference: Reference,

    /// New directory for the image
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    platform: PlatformArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    if args.dir.symlink_metadata().is_ok() {
        let error = anyhow!("the directory for the image exists already: {}", args.dir.display());
        return Err(hinted(error, "name a new directory"));
    }
    let client = args.registry.client(&args.reference)?.stopping_at(&stop_flag()?);
    let Reference { repository, version } = &args.reference;
    let reader = client.reader(repository).map_err(diagnosis::of_registry)?;
    let image = reader.image(version, &args.platform.platform()?).map_err(diagnosis::of_registry)?;
    let size: u64 = image.fields.layers.iter().map(|layer| layer.size).sum();
    let progress = Downloading::new(size, args.verbosity.quiet);
    reader.pull(&image, &args.dir, &|bytes| progress.advance(bytes)).map_err(diagnosis::of_registry)?;
    drop(progress);
    let reference = reader.reference(&Version::Digest(image.digest()));
    if !args.verbosity.quiet {
        let layers = count(image.fields.layers.len(), "layer");
        let seconds = start.elapsed().as_secs_f64();
        say(format!("pulled {} in {layers} for {} in {seconds:.2} s", human(size), image.platform));
    }
    if !args.json {
        return print(format!("{reference}\n"));
    }
    let pulled = json!({
        "reference": reference, "platform": image.platform.to_string(), "manifestDigest": image.manifest.digest,
        "imageId": image.fields.config.digest, "size": size,
    });
    print(format!("{pulled}\n"))
}
