//! Documents and blobs with one fault each.

use std::collections::HashMap;

use nixply_packer::image::Measured;
use serde_json::json;

use super::*;

/// Blobs by the digest that documents name.
#[derive(Default)]
struct Blobs(HashMap<Digest, Vec<u8>>);

impl Source for Blobs {
    type Error = std::io::Error;

    fn manifest(&self, digest: Digest) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(&digest).cloned())
    }

    fn small(&self, digest: Digest) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(&digest).cloned())
    }

    fn layer(&self, layer: &Descriptor) -> std::io::Result<Option<Measured>> {
        self.0.get(&layer.digest).map(|bytes| Measured::of(&mut &bytes[..])).transpose()
    }
}

impl Blobs {
    fn put(&mut self, bytes: &[u8], media_type: &str) -> Value {
        self.0.insert(Digest::of(bytes), bytes.to_vec());
        json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
    }
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER: &[u8] = b"a layer without compression";

/// An image of one layer. `change` edits the config and the manifest.
fn image(blobs: &mut Blobs, change: impl Fn(&mut Value, &mut Value)) -> Value {
    let layer = blobs.put(LAYER, TAR);
    let diff_ids = json!({"type": "layers", "diff_ids": [DiffId::of(LAYER)]});
    let mut config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": diff_ids});
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [layer]});
    change(&mut config, &mut manifest);
    let config = blobs.put(config.to_string().as_bytes(), CONFIG);
    if manifest["config"] == json!({}) {
        manifest["config"] = config;
    }
    blobs.put(manifest.to_string().as_bytes(), MANIFEST)
}

fn validated(blobs: &Blobs, entry: &Value) -> Validation {
    let mut validator = Validator::new(blobs);
    validator.descriptor("app:t", entry).unwrap();
    validator.finish()
}

fn problems(blobs: &Blobs, entry: &Value) -> Vec<String> {
    validated(blobs, entry).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_valid_image_has_no_problems() {
    let mut blobs = Blobs::default();
    let mut entry = image(&mut blobs, |_, _| {});
    entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let expected = Validation { images: 1, layers: 1, size: LAYER.len() as u64, problems: Vec::new() };
    assert_eq!(validated(&blobs, &entry), expected);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, entry]});
    let index = blobs.put(index.to_string().as_bytes(), INDEX);
    assert_eq!(validated(&blobs, &index), expected);
}

/// Each kind of document and blob, with one byte changed.
#[test]
fn a_changed_byte_is_found_in_every_blob() {
    let mut blobs = Blobs::default();
    let entry = image(&mut blobs, |_, _| {});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let index = blobs.put(index.to_string().as_bytes(), INDEX);
    for digest in blobs.0.keys().copied().collect::<Vec<_>>() {
        let right = blobs.0[&digest].clone();
        let mut wrong = right.clone();
        // A space in JSON, which changes no value.
        match wrong.iter().position(|byte| *byte == b':').filter(|_| wrong[0] == b'{') {
            Some(colon) => wrong.insert(colon, b' '),
            None => wrong[3] ^= 1,
        }
        blobs.0.insert(digest, wrong.clone());
        let found = problems(&blobs, &index);
        let digest_line = |part: &str| {
            let image = if part == "index" {
                "app:t".into()
            } else {
                format!("app:t@{}", entry["digest"].as_str().unwrap())
            };
            format!("{image}: {part}: digest: expected {digest}, found {}", Digest::of(&wrong))
        };
        let parts = ["index", "manifest", "config", "layer 1"];
        assert!(parts.iter().any(|part| found.contains(&digest_line(part))), "{found:#?}");
        let has = |text: &str| found.iter().any(|line| line.contains(text));
        assert_eq!(has(": size: expected"), wrong.len() != right.len(), "{found:#?}");
        assert_eq!(has("layer 1: diff_id: expected"), wrong.len() == right.len(), "{found:#?}");
        blobs.0.remove(&digest);
        let found = problems(&blobs, &index);
        assert!(
            found.len() == 1 && found[0].ends_with(&format!("expected {digest}, found no such blob")),
            "{found:#?}"
        );
        blobs.0.insert(digest, right);
    }
    assert!(problems(&blobs, &index).is_empty());
}

#[test]
fn wrong_fields_are_named_with_both_values() {
    let (zero, real) = (format!("sha256:{}", "0".repeat(64)), DiffId::of(LAYER));
    type Change<'c> = &'c dyn Fn(&mut Value, &mut Value);
    let changes: [(Change<'_>, String); 8] = [
        (
            &|config, _| config["rootfs"]["diff_ids"] = json!([zero]),
            format!("layer 1: diff_id: expected {zero}, found {real}"),
        ),
        (
            &|config, _| config["rootfs"]["diff_ids"] = json!([real, real]),
            "config: number of diff_ids: expected 1, found 2".into(),
        ),
        (
            &|_, manifest| manifest["layers"][0]["mediaType"] = json!(format!("{TAR}+gzip")),
            format!("layer 1: media type: expected {TAR}+gzip, found a blob of {TAR}"),
        ),
        (
            &|_, manifest| manifest["layers"][0]["mediaType"] = json!("text/plain"),
            "layer 1: media type: expected one of a layer, found text/plain".into(),
        ),
        (
            &|_, manifest| manifest["layers"][0]["size"] = json!(3),
            format!("layer 1: size: expected 3, found {}", LAYER.len()),
        ),
        (
            &|_, manifest| manifest["schemaVersion"] = json!(1),
            "manifest: schemaVersion: expected 2, found 1".into(),
        ),
        (
            &|_, manifest| manifest["mediaType"] = json!(MANIFESTS[1]),
            format!("manifest: media type: expected {MANIFEST}, found {}", MANIFESTS[1]),
        ),
        (
            &|config, _| config["architecture"] = json!("arm64"),
            "config: platform: expected linux/amd64, found linux/arm64".into(),
        ),
    ];
    for (change, line) in changes {
        let mut blobs = Blobs::default();
        let mut entry = image(&mut blobs, change);
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        assert_eq!(problems(&blobs, &entry), [format!("app:t: {line}")]);
    }
}
