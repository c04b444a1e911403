//! `nixply inspect`.

mod remote;

use std::path::PathBuf;

use anyhow::Result;
use nixply_documents::go_json;
use nixply_oci::Digest;
use nixply_packer::ImageSpec;
use nixply_packer::image::IndexSpec;
use serde_json::{Value, json};

use crate::arguments::{PlatformArgs, RegistryArgs};
use crate::documents::{self, Content};
use crate::output::print;
use crate::terminal::{Page, count, human};

/// Show an image's layers with their digests, sizes and store paths, or the images of an image index
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Spec of an image or of an image index (image.json or a result link), or an image in a registry, such as ghcr.io/team/app:1.0
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    platform: PlatformArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(reference) = crate::remote::reference(&args.image)? {
        return remote::run(args, &reference);
    }
    let content = documents::content(&args.image)?;
    if args.json {
        let data = match &content {
            Content::Image(spec) => image_data(spec),
            Content::Index(spec) => index_data(spec),
        };
        return print(format!("{data}\n"));
    }
    let mut out = Page::default();
    match &content {
        Content::Image(spec) => show_image(spec, &mut out),
        Content::Index(spec) => show_index(spec, &mut out),
    }
    print(out)
}

fn image_id(spec: &ImageSpec) -> Digest {
    Digest::of(&spec.config_blob())
}

/// Returns the digest of the manifest. A layer of a base image may have no recorded size (nix2container#207), and the manifest
/// needs all sizes.
fn manifest_digest(spec: &ImageSpec) -> Option<Digest> {
    let sizes_known = spec.layers.iter().all(|layer| layer.size > 0);
    sizes_known.then(|| Digest::of(&go_json::compact(&spec.manifest())))
}

/// Returns the digest of the OCI index, if all manifests are known.
fn index_digest(spec: &IndexSpec) -> Option<Digest> {
    let known = spec.images.iter().all(|image| manifest_digest(&image.spec).is_some());
    let manifests = || spec.images.iter().map(|image| image.spec.manifest()).collect::<Vec<_>>();
    known.then(|| Digest::of(&go_json::compact(&spec.index(&manifests()))))
}

fn image_data(spec: &ImageSpec) -> Value {
    let layers = spec.layers.iter().map(|layer| {
        json!({
            "digest": layer.digest, "diffId": layer.diff_id, "size": layer.size, "mediaType": layer.media_type,
            "paths": layer.paths.iter().map(|path| path.path.as_str()).collect::<Vec<_>>(),
        })
    });
    let layers: Vec<_> = layers.collect();
    json!({"imageId": image_id(spec), "manifestDigest": manifest_digest(spec), "layers": layers})
}

fn index_data(spec: &IndexSpec) -> Value {
    let images = spec.images.iter().map(|image| {
        let mut data = image_data(&image.spec);
        data["platform"] = image.spec.platform().to_string().into();
        data["annotations"] = json!(image.annotations);
        data
    });
    let images: Vec<_> = images.collect();
    json!({"indexDigest": index_digest(spec), "annotations": spec.annotations, "images": images})
}

fn show_image(spec: &ImageSpec, out: &mut Page) {
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
    out.line(format!("image id   {}", image_id(spec)));
    if let Some(manifest) = manifest_digest(spec) {
        out.line(format!("manifest   {manifest}"));
    }
    out.line(format!("total      {} in {}", human(total), count(spec.layers.len(), "layer")));
}

fn show_index(spec: &IndexSpec, out: &mut Page) {
    for image in &spec.images {
        out.line(format!("image for {}", image.title()));
        annotations(&image.annotations, out);
        show_image(&image.spec, out);
        out.line("");
    }
    annotations(&spec.annotations, out);
    if let Some(index) = index_digest(spec) {
        out.line(format!("index      {index}"));
    }
    // Images share layers, such as those of a base image with only data.
    let mut layers: Vec<_> = spec.layers().map(|layer| (layer.digest, layer.size)).collect();
    layers.sort_unstable();
    layers.dedup();
    let total: u64 = layers.iter().map(|(_, size)| size).sum();
    let (images, layers) = (count(spec.images.len(), "image"), count(layers.len(), "different layer"));
    out.line(format!("total      {} in {layers} of {images}", human(total)));
}

fn annotations(annotations: &std::collections::BTreeMap<String, String>, out: &mut Page) {
    for (key, value) in annotations {
        out.line(format!("annotation {key}={value}"));
    }
}
