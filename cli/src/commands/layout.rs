//! `nixply layout`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::image::layout;
use nixply_packer::{Cache, Codec, Control, Packing};

use crate::arguments::{CacheArgs, OutsideStoreArgs, StoreArgs, Verbosity, values};
use crate::documents::{Content, SpecFile};
use crate::output::print;
use crate::process::stop_flag;
use crate::terminal::PackingProgress;

/// Write an image or an image index to an OCI layout directory
///
/// skopeo, podman, umoci and others read the layout as oci:DIR:TAG. Prints the digest of the manifest or index.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Spec of an image or of an image index
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// Layout directory; the image is added to an existing layout
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Tag of the image in the layout
    #[arg(short, long, default_value = "latest", value_parser = values::tag)]
    tag: String,

    /// Codec, with an optional level as in zstd:9 [default: the spec's]. Layers of a base image keep their codec, except that one
    /// which some clients cannot read, such as zstd, is converted if this flag names another codec
    #[arg(short, long, value_name = "CODEC", value_parser = values::codec())]
    compression: Option<Codec>,

    #[command(flatten)]
    outside_store: OutsideStoreArgs,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

/// Writes the layout and prints the manifest's digest.
pub(crate) fn run(args: &Args) -> Result<()> {
    let files = args.outside_store.files();
    let file = SpecFile::read_content_to_pack(&args.image, args.store.store_of(&args.image), files)?;
    let stop = stop_flag()?;
    let progress = PackingProgress::new(args.verbosity.quiet);
    let control = Control::new(&stop, &progress);
    let cache = args.cache.open();
    let packer = args.store.packer(cache.clone());
    let packing = Packing::new(&file.store, &packer, &control);
    let digest = match &file.spec {
        Content::Image(spec) => {
            layout::write(spec, &args.directory, &args.tag, args.compression, &packing)?.manifest
        }
        Content::Index(spec) => {
            layout::write_index(spec, &args.directory, &args.tag, args.compression, &packing)?.index
        }
    };
    progress.clear();
    cache.iter().for_each(Cache::trim);
    print(format!("{digest}\n"))?;
    progress.finish(file.spec.layers().count());
    Ok(())
}
