//! `nixply layout`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::cache::Cache;
use nixply_packer::compress::Codec;
use nixply_packer::image::layout;
use nixply_packer::pack::Control;

use super::cache::CacheFlags;
use super::{Machine, Talk, values};
use crate::terminal::Packing;

/// Write an image to an OCI layout folder, which skopeo, podman, umoci and others read (as oci:DIR:TAG)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image's spec
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// The folder; a layout that is there already is added to
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// The image's tag in the layout
    #[arg(short, long, default_value = "latest", value_parser = values::tag)]
    tag: String,

    /// none, gzip or zstd, with a level as in zstd:9; without it, what the spec says. A base image's layers keep theirs, unless that is
    /// zstd and this is not
    #[arg(short, long, value_name = "CODEC", value_parser = values::codec)]
    compression: Option<Codec>,

    /// Take layers' files (`layer-path`) from anywhere, as n2c image-from-dir names them; else a spec may name the store alone
    #[arg(long)]
    allow_outside_store: bool,

    #[command(flatten)]
    talk: Talk,

    #[command(flatten)]
    machine: Machine,

    #[command(flatten)]
    cache: CacheFlags,
}

/// Prints the manifest's digest.
pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.machine.store_of(&args.image);
    let spec = super::inputs::spec_within(&args.image, &store, args.allow_outside_store)?;
    let stop = super::stop_flag()?;
    let packing = Packing::new(args.talk.quiet);
    let control = Control::new(&stop, &packing);
    let cache = args.cache.open();
    let packer = args.machine.packer(cache.clone());
    let written = layout::write(&spec, &store, &args.folder, &args.tag, args.compression, &packer, &control)?;
    packing.clear();
    cache.iter().for_each(Cache::trim);
    super::print(format!("{}\n", written.manifest))?;
    packing.finish(spec.layers.len());
    Ok(())
}
