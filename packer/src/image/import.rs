//! Images that others have made, as specs whose layers are blobs in files: a base image for `fromImage`. Source:
//! nix2container's `NewImageFromDir` and `NewImageFromManifest`, but that layers' sizes are recorded (its #207), and the
//! config, which an image on top may inherit (its #79).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::ImageConfig;
use super::spec::{History, ImageSpec, Layer};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};

/// Reads a folder that skopeo's `dir:` transport has filled: `manifest.json`, and each blob under its digest's digits.
pub fn from_dir(dir: &Path) -> Result<ImageSpec> {
    import(&dir.join("manifest.json"), |digest| Ok(dir.join(digest.hex())))
}

/// Reads a manifest whose blobs lie where `blobs` says, by their digests' digits.
pub fn from_manifest(manifest: &Path, blobs: &HashMap<String, PathBuf>) -> Result<ImageSpec> {
    import(manifest, |digest| {
        let missing = || {
            let why = format!("the blobs' map has no file for {digest}");
            Error::invalid(manifest.display().to_string(), why)
        };
        blobs.get(&digest.hex()).cloned().ok_or_else(missing)
    })
}

#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Config {
    /// Docker has written null here.
    #[serde(default)]
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<DiffId>,
}

fn import(manifest: &Path, blob: impl Fn(&Digest) -> Result<PathBuf>) -> Result<ImageSpec> {
    let Manifest { config, layers } = read(manifest)?;
    let config_file = blob(&config.digest)?;
    let Config { config: base, rootfs: RootFs { diff_ids } } = read(&config_file)?;
    if diff_ids.len() != layers.len() {
        let why = format!(
            "the config has diff_ids of {} layers, the manifest has {}",
            diff_ids.len(),
            layers.len()
        );
        return Err(Error::invalid(manifest.display().to_string(), why));
    }
    let imported = layers.into_iter().zip(diff_ids).map(|(layer, diff_id)| {
        let file = blob(&layer.digest)?;
        let file =
            file.to_str().ok_or_else(|| Error::invalid(file.display().to_string(), "it is not UTF-8"))?;
        Ok(Layer {
            digest: layer.digest,
            size: layer.size,
            diff_id,
            paths: Vec::new(),
            media_type: media_type(&layer.media_type, manifest)?.into(),
            layer_path: Some(file.into()),
            compression: None,
            key: None,
            history: History::default(),
        })
    });
    Ok(ImageSpec {
        version: 1,
        config: base.unwrap_or_default(),
        layers: imported.collect::<Result<_>>()?,
        arch: String::new(),
        created: None,
        annotations: BTreeMap::new(),
    })
}

/// OCI's name for the type of a layer that Docker or OCI named.
fn media_type(text: &str, manifest: &Path) -> Result<&'static str> {
    match text {
        "application/vnd.docker.image.rootfs.diff.tar" | "application/vnd.oci.image.layer.v1.tar" => {
            Ok("application/vnd.oci.image.layer.v1.tar")
        }
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.oci.image.layer.v1.tar+gzip" => Ok("application/vnd.oci.image.layer.v1.tar+gzip"),
        "application/vnd.oci.image.layer.v1.tar+zstd" => Ok("application/vnd.oci.image.layer.v1.tar+zstd"),
        _ => {
            let why = format!(
                "unsupported media type: {text:?}; layers are plain, gzip or zstd tar (for an index of several \
                 platforms, name one of them when you copy it)"
            );
            Err(Error::invalid(manifest.display().to_string(), why))
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T> {
    let text = fs::read(file).map_err(|source| Error::io("read file", file, source))?;
    serde_json::from_slice(&text).map_err(|error| Error::invalid(file.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LAYER: &str = "59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3";
    const DIFF_ID: &str = "sha256:8d3ac3489996423f53d6087c81180006263b79f206d3fdec9e66f0e27ceb8759";
    const CONFIG: &str = "c059bfaa849c4d8e4aecaeb3a10c2d9b3d85f5165c66ad3a4d937758128c4d18";

    /// A folder like the one in nix2container's test: a Docker manifest with one gzip layer.
    fn folder(media_type: &str, diff_ids: Value) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1472, "digest": format!("sha256:{CONFIG}")},
            "layers": [{"mediaType": media_type, "size": 2818413, "digest": format!("sha256:{LAYER}")}],
        });
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        let config = json!({"architecture": "amd64", "config": {"Env": ["A=1"], "Hostname": "h"}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
        dir
    }

    /// nix2container's TestNewImageFromDir (G9).
    #[test]
    fn g9_a_docker_layer_becomes_an_oci_layer() {
        let dir = folder("application/vnd.docker.image.rootfs.diff.tar.gzip", json!([DIFF_ID]));
        let spec = from_dir(dir.path()).unwrap();
        let expected = json!({
            "version": 1, "image-config": {"Env": ["A=1"]}, "arch": "", "created": null,
            "layers": [{
                "digest": format!("sha256:{LAYER}"), "size": 2818413, "diff_ids": DIFF_ID,
                "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip",
                "layer-path": dir.path().join(LAYER), "History": {},
            }],
        });
        assert_eq!(serde_json::from_slice::<Value>(&spec.write()).unwrap(), expected);

        let elsewhere = HashMap::from([
            (CONFIG.to_owned(), dir.path().join(CONFIG)),
            (LAYER.to_owned(), PathBuf::from("/nix/store/blob")),
        ]);
        let spec = from_manifest(&dir.path().join("manifest.json"), &elsewhere).unwrap();
        assert_eq!(spec.layers[0].layer_path.as_deref(), Some("/nix/store/blob"));
    }

    #[test]
    fn what_cannot_be_imported_is_named() {
        let error = |dir: &tempfile::TempDir| from_dir(dir.path()).unwrap_err().chain();
        let xz = folder("application/vnd.oci.image.layer.v1.tar+xz", json!([DIFF_ID]));
        assert!(error(&xz).contains("unsupported media type: \"application/vnd.oci.image.layer.v1.tar+xz\""));
        let short = folder("application/vnd.oci.image.layer.v1.tar", json!([]));
        assert!(error(&short).contains("the config has diff_ids of 0 layers, the manifest has 1"));
        let gone = folder("application/vnd.oci.image.layer.v1.tar", json!([]));
        fs::remove_file(gone.path().join(CONFIG)).unwrap();
        assert!(error(&gone).contains("cannot read file") && error(&gone).contains(CONFIG));
        let manifest = short.path().join("manifest.json");
        let error = from_manifest(&manifest, &HashMap::new()).unwrap_err().to_string();
        assert!(error.contains(&format!("no file for sha256:{CONFIG}")), "{error}");
    }
}
