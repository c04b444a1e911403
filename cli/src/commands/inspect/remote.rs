//! Images in registries.

use anyhow::Result;
use nixply_oci::Descriptor;
use nixply_packer::LayerKey;
use nixply_registry::client::{Index, Reference, RemoteImage, Version};
use serde_json::{Value, json};

use super::Args;
use crate::output::print;
use crate::remote;
use crate::terminal::{Page, count, human};

/// Shows the image of one platform.
pub(super) fn run(args: &Args, reference: &Reference) -> Result<()> {
    let client = args.registry.client(reference)?;
    let (reader, image) = remote::read(&client, reference, &args.platform)
        .map_err(|error| remote::explained(error, &args.image))?;
    let name = reader.reference(&Version::Digest(image.digest()));
    if args.json {
        return print(format!("{}\n", data(&name, &image)));
    }
    print(page(&name, &image))
}

fn data(name: &str, image: &RemoteImage) -> Value {
    let layers = image.fields.layers.iter().zip(&image.spec.layers).map(|(blob, layer)| {
        json!({
            "digest": blob.digest, "diffId": layer.diff_id, "size": blob.size, "mediaType": blob.media_type,
            "key": layer.key.map(|key| key.to_string()), "history": layer.history,
        })
    });
    let layers: Vec<_> = layers.collect();
    let config: Value = serde_json::from_slice(&image.config).unwrap_or_default();
    json!({
        "reference": name, "platform": image.platform.to_string(),
        "indexDigest": image.indexes.first().map(|index| index.digest), "platforms": platforms(image),
        "manifestDigest": image.manifest.digest, "mediaType": image.fields.media_type,
        "imageId": image.fields.config.digest, "annotations": image.fields.annotations, "config": config["config"],
        "layers": layers,
    })
}

/// Returns the platforms of the index, or `None` if there is no index.
fn platforms(image: &RemoteImage) -> Option<Vec<String>> {
    let index = image.indexes.first().and_then(|index| Index::of(&index.bytes))?;
    let images = index.manifests.iter().filter(|child| child.is_image());
    Some(images.filter_map(|child| child.platform.as_ref()).map(ToString::to_string).collect())
}

fn page(name: &str, image: &RemoteImage) -> Page {
    let mut out = Page::default();
    let layers = &image.fields.layers;
    if layers.is_empty() {
        out.line("the image has no layers");
    }
    for (at, layer) in layers.iter().enumerate() {
        let (number, size) = (at + 1, human(layer.size));
        out.line(format!("layer {number:>3}  {}  {size:>9}  {}", layer.digest, layer.media_type));
        if let Some(key) = key(layer) {
            out.line(format!("           key {key}"));
        }
    }
    let total: u64 = layers.iter().map(|layer| layer.size).sum();
    out.line(format!("image      {name}"));
    out.line(format!("platform   {}", image.platform));
    out.line(format!("image id   {}", image.fields.config.digest));
    out.line(format!("manifest   {}", image.manifest.digest));
    if let Some(index) = image.indexes.first() {
        let platforms = platforms(image).unwrap_or_default();
        out.line(format!("index      {}  {}", index.digest, platforms.join(", ")));
    }
    for (name, value) in &image.fields.annotations {
        out.line(format!("annotation {name}={value}"));
    }
    out.line(format!("total      {} in {}", human(total), count(layers.len(), "layer")));
    out
}

/// Returns the layer's key, if the manifest names it.
fn key(layer: &Descriptor) -> Option<&str> {
    layer.annotations.get(LayerKey::ANNOTATION).map(String::as_str)
}
