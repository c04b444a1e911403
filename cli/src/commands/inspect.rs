//! `nixply inspect`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_documents::go_json;
use nixply_oci::Digest;
use nixply_packer::image::oci;
use serde_json::json;

use crate::documents;
use crate::output::print;
use crate::terminal::{Page, count, human};

/// Show an image's layers with their digests, sizes and store paths
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Image spec
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let spec = documents::spec(&args.image)?;
    let id = Digest::of(&oci::config(&spec));
    // A layer of a base image may have no recorded size (nix2container#207), and the manifest needs all sizes.
    let sizes_known = spec.layers.iter().all(|layer| layer.size > 0);
    let manifest = sizes_known.then(|| Digest::of(&go_json::compact(&oci::manifest_of(&spec))));
    if args.json {
        let layers = spec.layers.iter().map(|layer| {
            json!({
                "digest": layer.digest, "diffId": layer.diff_id, "size": layer.size, "mediaType": layer.media_type,
                "paths": layer.paths.iter().map(|path| path.path.as_str()).collect::<Vec<_>>(),
            })
        });
        let layers: Vec<_> = layers.collect();
        let image = json!({"imageId": id, "manifestDigest": manifest, "layers": layers});
        return print(format!("{image}\n"));
    }
    let mut out = Page::default();
    if spec.layers.is_empty() {
        out.line("the image has no layers");
    }
    for (at, layer) in spec.layers.iter().enumerate() {
        let paths = layer.paths.len();
        let what = match &layer.layer_path {
            Some(path) => path.clone(),
            None => count(paths, "path"),
        };
        out.line(format!("layer {:>3}  {}  {:>9}  {what}", at + 1, layer.digest, human(layer.size)));
        for path in &layer.paths {
            out.line(format!("           {}", path.path));
        }
    }
    let total: u64 = spec.layers.iter().map(|layer| layer.size).sum();
    out.line(format!("image id   {id}"));
    if let Some(manifest) = manifest {
        out.line(format!("manifest   {manifest}"));
    }
    out.line(format!("total      {} in {}", human(total), count(spec.layers.len(), "layer")));
    print(out)
}
