//! Images that others have made, as specs whose layers are blobs in files: a base image for `fromImage`. Source:
//! nix2container's `NewImageFromDir` and `NewImageFromManifest`, but that the spec has what those leave out: layers'
//! sizes (its #207), the config, which an image on top may inherit (its #79), the history (its #57), and the platform.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::config::ImageConfig;
use super::index::{is_layout, tag_of};
use super::oci;
use super::platform::Platform;
use super::spec::{History, ImageSpec, Layer};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::go_json::null_is_default;
use crate::{document, open, wording};

/// More than any manifest, index or config has.
const MOST_BYTES: u64 = 64 << 20;

/// How many indexes may stand one in the other.
const MOST_INDEXES: usize = 4;

/// Reads a folder that skopeo's `dir:` transport has filled: `manifest.json`, and each blob under its digest's digits. An
/// OCI layout will do, too. Of an index of several platforms, `wanted` says which.
pub fn from_dir(dir: &Path, wanted: Option<&Platform>) -> Result<ImageSpec> {
    let (manifest, layout) = (dir.join("manifest.json"), dir.join("index.json"));
    if !manifest.exists() && layout.exists() {
        is_layout(dir)?;
        return import(&layout, wanted, |digest| Ok(dir.join("blobs/sha256").join(digest.hex())));
    }
    import(&manifest, wanted, |digest| {
        // What skopeo calls the manifests of an index.
        let manifest = dir.join(format!("{}.manifest.json", digest.hex()));
        Ok(if manifest.exists() { manifest } else { dir.join(digest.hex()) })
    })
}

/// Reads a manifest whose blobs lie where `blobs` says, by their digests' digits. Of an index of several platforms, `wanted`
/// says which; its manifest is such a blob, too.
pub fn from_manifest(
    manifest: &Path,
    blobs: &HashMap<String, PathBuf>,
    wanted: Option<&Platform>,
) -> Result<ImageSpec> {
    import(manifest, wanted, |digest| {
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
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    urls: Vec<String>,
}

/// An entry of an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: Platform,
    /// Docker has written null here.
    #[serde(default)]
    config: Option<ImageConfig>,
    rootfs: RootFs,
    #[serde(default, deserialize_with = "null_is_default")]
    history: Vec<History>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<DiffId>,
}

fn import(
    document: &Path,
    wanted: Option<&Platform>,
    blob: impl Fn(&Digest) -> Result<PathBuf>,
) -> Result<ImageSpec> {
    let (manifest, Manifest { config, layers }) = manifest(document, wanted, &blob)?;
    let wrong = |why: String| Error::invalid(manifest.display().to_string(), why);
    let config_file = blob(&config.digest)?;
    let document: Value = read(&config_file, "the image's config", Some(&config.digest))?;
    if document.get("rootfs").is_none() {
        return Err(wrong(format!(
            "it is not an image's: its config has no rootfs (media type {:?}); Helm charts and other artifacts cannot be a \
             base image",
            config.media_type
        )));
    }
    let Config { platform, config: base, rootfs: RootFs { diff_ids }, history } =
        parse(document, &config_file, "")?;
    let platform = platform.canonical();
    if let Some(wanted) = wanted.filter(|wanted| !platform.architecture.is_empty() && !platform.is(wanted)) {
        return Err(wrong(format!(
            "it is the manifest of an image for {platform}, not for {wanted}: leave --platform out, or name the index"
        )));
    }
    if diff_ids.len() != layers.len() {
        return Err(wrong(format!(
            "the config has diff_ids of {} layers, the manifest has {}",
            diff_ids.len(),
            layers.len()
        )));
    }
    let imported = layers.into_iter().zip(diff_ids).enumerate().map(|(at, (layer, diff_id))| {
        let media_type = media_type(&layer, at).map_err(&wrong)?;
        let file = blob(&layer.digest)?;
        check_blob(&file, &layer, at)?;
        let file =
            file.to_str().ok_or_else(|| Error::invalid(file.display().to_string(), "it is not UTF-8"))?;
        Ok(Layer {
            digest: layer.digest,
            size: layer.size,
            diff_id,
            paths: Vec::new(),
            media_type: media_type.into(),
            layer_path: Some(file.into()),
            compression: None,
            key: None,
            history: History::default(),
            history_before: Vec::new(),
            history_after: Vec::new(),
        })
    });
    let mut layers: Vec<Layer> = imported.collect::<Result<_>>()?;
    tell_history(&mut layers, history);
    Ok(ImageSpec {
        version: 1,
        config: base.unwrap_or_default(),
        layers,
        arch: platform.short(),
        created: None,
        annotations: BTreeMap::new(),
    })
}

/// Gives each layer its entry of the history, and those between that have no layer. Where there are too few entries, the last
/// layers have none; where there are too many, the last ones have no layer.
fn tell_history(layers: &mut [Layer], history: Vec<History>) {
    let (mut next, mut between) = (0, Vec::new());
    for entry in history {
        match layers.get_mut(next).filter(|_| !entry.empty_layer) {
            Some(layer) => {
                (layer.history, layer.history_before) = (entry, std::mem::take(&mut between));
                next += 1;
            }
            None => between.push(History { empty_layer: true, ..entry }),
        }
    }
    match next.checked_sub(1) {
        Some(last) => layers[last].history_after = between,
        None => {
            layers.iter_mut().take(1).for_each(|first| first.history_before = std::mem::take(&mut between))
        }
    }
}

/// The manifest of one image: `document`, or the one of `wanted` in the index that it is.
fn manifest(
    document: &Path,
    wanted: Option<&Platform>,
    blob: impl Fn(&Digest) -> Result<PathBuf>,
) -> Result<(PathBuf, Manifest)> {
    let mut file = document.to_path_buf();
    let mut expected = None;
    for _ in 0..=MOST_INDEXES {
        let value: Value = read(&file, "the image's manifest", expected.as_ref())?;
        let wrong = |why: &str| Error::invalid(file.display().to_string(), why);
        if value.get("fsLayers").is_some() {
            return Err(wrong(
                "it is a manifest of Docker's schema 1, which has no config: copy the image with skopeo copy --format oci",
            ));
        }
        if let Some(version) =
            value.get("schemaVersion").filter(|version| !version.is_null() && **version != 2)
        {
            return Err(wrong(&format!("its schemaVersion is {version}, this nixply knows 2")));
        }
        if value.get("manifests").is_none() {
            if value.get("config").is_none() {
                return Err(wrong("it is neither an image's manifest, which has a config, nor an index"));
            }
            let manifest = parse(value, &file, "")?;
            return Ok((file, manifest));
        }
        let digest = choose(&value, &file, wanted)?;
        file = blob(&digest)?;
        expected = Some(digest);
    }
    Err(Error::invalid(document.display().to_string(), "its indexes stand in each other too deeply"))
}

/// The types of an image's config, OCI's and Docker's.
const CONFIGS: [&str; 2] = [oci::CONFIG, "application/vnd.docker.container.image.v1+json"];

/// The manifest in an index that is for `wanted`, or the only one.
fn choose(index: &Value, file: &Path, wanted: Option<&Platform>) -> Result<Digest> {
    let wrong = |why: String| Error::invalid(file.display().to_string(), why);
    let list = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut entries: Vec<(Entry, Option<&str>)> = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        // Signatures, SBOMs and the like are no images. Some tools repeat the config's type of an image here.
        let is_artifact = |kind: &Value| !kind.is_null() && !CONFIGS.iter().any(|config| kind == config);
        if value.is_null() || value.get("artifactType").is_some_and(is_artifact) {
            continue;
        }
        let mut entry: Entry = parse(value.clone(), file, &format!("manifests[{at}]"))?;
        entry.platform = entry.platform.map(Platform::canonical);
        if !entry.platform.as_ref().is_some_and(Platform::is_unknown) {
            entries.push((entry, tag_of(value)));
        }
    }
    let matches = |entry: &Entry| match (&entry.platform, wanted) {
        (Some(platform), Some(wanted)) => platform.is(wanted),
        _ => true,
    };
    let mut chosen: Vec<_> = entries.iter().filter(|(entry, _)| matches(entry)).collect();
    // Of variants, the one that is meant without one; else the one that is asked for, or the latest before it.
    if let ([_, _, ..], Some(wanted)) = (&chosen[..], wanted) {
        let number = |entry: &Entry| entry.platform.as_ref().map_or(0, Platform::variant_number);
        let same = |entry: &&&(Entry, _)| entry.0.platform.as_ref() == Some(wanted);
        let best = chosen.iter().find(same).copied().or_else(|| {
            let most = wanted.variant_number();
            let runs = chosen.iter().filter(|(entry, _)| number(entry) <= most);
            runs.max_by_key(|(entry, _)| number(entry)).copied().filter(|_| !wanted.variant.is_empty())
        });
        chosen = best.map_or(chosen, |best| vec![best]);
    }
    if let [(entry, _)] = chosen[..] {
        return entry
            .digest
            .parse()
            .map_err(|error| wrong(format!("digest {}: {error}", wording::quoted(&entry.digest))));
    }
    let name = |(entry, tag): &(Entry, Option<&str>)| match (&entry.platform, tag) {
        (Some(platform), _) => platform.to_string(),
        (None, Some(tag)) => format!("tag {tag}"),
        (None, None) => entry.digest.clone(),
    };
    let names: Vec<String> = entries.iter().map(name).collect();
    let has = if names.is_empty() { "no image".to_owned() } else { names.join(", ") };
    let example = entries.iter().find_map(|(entry, _)| entry.platform.as_ref());
    let way = match example {
        Some(platform) => format!(
            "name one with --platform, as in --platform {platform}, or save the manifest of one platform, as skopeo inspect --raw \
             docker://NAME@DIGEST prints it"
        ),
        None => {
            "copy one of them into a folder of its own, as with skopeo copy oci:FOLDER:TAG dir:OTHER".into()
        }
    };
    if entries.is_empty() {
        return Err(wrong("it is an index without an image".into()));
    }
    Err(wrong(match wanted {
        Some(wanted) if chosen.is_empty() => {
            format!("it is an index of several platforms and has none for {wanted}; it has {has}")
        }
        _ => {
            format!("it is an index of several platforms, not the manifest of one image; it has {has}: {way}")
        }
    }))
}

/// OCI's name for the type of a layer that Docker or OCI named, or why there is none.
fn media_type(layer: &Blob, at: usize) -> Result<&'static str, String> {
    let (text, layer, number) = (layer.media_type.as_str(), layer, at + 1);
    match text {
        "application/vnd.docker.image.rootfs.diff.tar" | "application/vnd.oci.image.layer.v1.tar" => {
            Ok("application/vnd.oci.image.layer.v1.tar")
        }
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.oci.image.layer.v1.tar+gzip" => Ok("application/vnd.oci.image.layer.v1.tar+gzip"),
        // BuildKit and containerd write it where OCI's types are not asked for.
        "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.oci.image.layer.v1.tar+zstd" => Ok("application/vnd.oci.image.layer.v1.tar+zstd"),
        _ if text.ends_with("+encrypted") => Err(format!(
            "layer {number} is encrypted ({}): decrypt the image first, as with skopeo copy --decryption-key",
            wording::quoted(text)
        )),
        _ if text.contains(".foreign.") || text.contains(".nondistributable.") => {
            let from = if layer.urls.is_empty() { "elsewhere".into() } else { layer.urls.join(", ") };
            Err(format!(
                "layer {number} may not be distributed with the image ({}, from {from}), as those of Windows: take a base \
                 image without such layers",
                wording::quoted(text)
            ))
        }
        "" => Err(format!("layer {number} has no mediaType")),
        _ => Err(format!(
            "layer {number} has an unsupported media type: {}; layers are plain, gzip or zstd tar",
            wording::quoted(text)
        )),
    }
}

/// Reads a document, which has the digest by which another one names it. `what` is for messages.
fn read<T: for<'de> Deserialize<'de>>(file: &Path, what: &str, expected: Option<&Digest>) -> Result<T> {
    let failed = |source| Error::unreadable(what, file, source);
    let text = open::text(open::linked(file).map_err(failed)?, MOST_BYTES).map_err(failed)?;
    check_digest(file, expected, Digest::of(text.as_bytes()))?;
    document::read(&text, &file.display().to_string())
}

fn check_digest(file: &Path, expected: Option<&Digest>, found: Digest) -> Result<()> {
    match expected.filter(|expected| **expected != found) {
        None => Ok(()),
        Some(expected) => Err(Error::BlobMismatch { expected: *expected, found, path: file.to_path_buf() }),
    }
}

/// Checks that a layer's file is what the manifest says. One that is not there yet is for its reader to miss: nix2container
/// names files without looking at them.
fn check_blob(file: &Path, layer: &Blob, at: usize) -> Result<()> {
    let failed = |source| Error::unreadable(format!("layer {}", at + 1), file, source);
    let mut blob = match open::linked(file) {
        Ok(blob) => blob,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let found = blob.metadata().map_err(failed)?.len();
    if found != layer.size {
        let why = format!(
            "layer {}, {}, has {found} bytes, but the manifest says {}",
            at + 1,
            layer.digest,
            layer.size
        );
        return Err(Error::invalid(file.display().to_string(), why));
    }
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match blob.read(&mut chunk).map_err(failed)? {
            0 => return check_digest(file, Some(&layer.digest), Digest::finish(hasher)),
            read => hasher.update(&chunk[..read]),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value, file: &Path, place: &str) -> Result<T> {
    document::fill_at(value, &file.display().to_string(), place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    const LAYER: &str = "59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3";
    const DIFF_ID: &str = "sha256:8d3ac3489996423f53d6087c81180006263b79f206d3fdec9e66f0e27ceb8759";

    /// A folder like the one in nix2container's test: a Docker manifest with one gzip layer.
    fn folder(media_type: &str, diff_ids: Value) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"architecture": "amd64", "config": {"Env": ["A=1"], "Hostname": "h"}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1472, "digest": put(dir.path(), &config)},
            "layers": [{"mediaType": media_type, "size": 2818413, "digest": format!("sha256:{LAYER}")}],
        });
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        dir
    }

    /// The digits of the folder's config.
    fn config_of(dir: &Path) -> String {
        let manifest: Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        config_of_manifest(&manifest)["sha256:".len()..].to_owned()
    }

    /// nix2container's TestNewImageFromDir (G9).
    #[test]
    fn g9_a_docker_layer_becomes_an_oci_layer() {
        let dir = folder("application/vnd.docker.image.rootfs.diff.tar.gzip", json!([DIFF_ID]));
        let spec = from_dir(dir.path(), None).unwrap();
        let expected = json!({
            "version": 1, "image-config": {"Env": ["A=1"]}, "arch": "amd64", "created": null,
            "layers": [{
                "digest": format!("sha256:{LAYER}"), "size": 2818413, "diff_ids": DIFF_ID,
                "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip",
                "layer-path": dir.path().join(LAYER), "History": {},
            }],
        });
        assert_eq!(serde_json::from_slice::<Value>(&spec.write()).unwrap(), expected);

        let config = config_of(dir.path());
        let elsewhere = HashMap::from([
            (config.clone(), dir.path().join(config)),
            (LAYER.to_owned(), PathBuf::from("/nix/store/blob")),
        ]);
        let spec = from_manifest(&dir.path().join("manifest.json"), &elsewhere, None).unwrap();
        assert_eq!(spec.layers[0].layer_path.as_deref(), Some("/nix/store/blob"));
    }

    #[test]
    fn what_cannot_be_imported_is_named() {
        let error = |dir: &tempfile::TempDir| from_dir(dir.path(), None).unwrap_err().chain();
        let xz = folder("application/vnd.oci.image.layer.v1.tar+xz", json!([DIFF_ID]));
        assert!(error(&xz).contains("unsupported media type: \"application/vnd.oci.image.layer.v1.tar+xz\""));
        let short = folder("application/vnd.oci.image.layer.v1.tar", json!([]));
        assert!(error(&short).contains("the config has diff_ids of 0 layers, the manifest has 1"));
        let gone = folder("application/vnd.oci.image.layer.v1.tar", json!([]));
        let config = config_of(gone.path());
        fs::remove_file(gone.path().join(&config)).unwrap();
        assert!(error(&gone).contains("cannot read the image's config: ") && error(&gone).contains(&config));
        let manifest = short.path().join("manifest.json");
        let config = config_of(short.path());
        let error = from_manifest(&manifest, &HashMap::new(), None).unwrap_err().to_string();
        assert!(error.contains(&format!("no file for sha256:{config}")), "{error}");
    }

    #[test]
    fn blobs_have_their_digests() {
        let layer = Digest::of(b"layer");
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"rootfs": {"diff_ids": [DIFF_ID]}});
        let layers = json!([{"mediaType": LAYER_TYPE, "size": 5, "digest": layer}]);
        let manifest = json!({"config": {"size": 1, "digest": put(dir.path(), &config)}, "layers": layers});
        let image = put(dir.path(), &manifest);
        let index = json!({"manifests": [{"digest": image}]});
        fs::write(dir.path().join("manifest.json"), index.to_string()).unwrap();
        let write = |digest: &str, bytes: &[u8]| {
            let file = dir.path().join(digest.trim_start_matches("sha256:"));
            let old = fs::read(&file).unwrap_or_default();
            fs::write(&file, bytes).unwrap();
            let error = from_dir(dir.path(), None).map(drop).map_err(|error| error.chain());
            if !old.is_empty() {
                fs::write(&file, old).unwrap();
            }
            (error.err().unwrap_or_default(), file.display().to_string())
        };
        assert_eq!(write(&layer.to_string(), b"layer").0, "");
        let other = [manifest.to_string().as_bytes(), b" "].concat();
        for (digest, bytes) in [
            (layer.to_string(), &b"other"[..]),
            (config_of_manifest(&manifest), br#"{"rootfs": {"diff_ids": []}}"#),
            (image, &other),
        ] {
            let (error, file) = write(&digest, bytes);
            let found = Digest::of(bytes);
            assert_eq!(error, format!("blob does not have its digest {digest} (found {found}): {file}"));
        }
        let (error, file) = write(&layer.to_string(), b"longer");
        assert_eq!(
            error,
            format!("{file} is not valid: layer 1, {layer}, has 6 bytes, but the manifest says 5")
        );
    }

    fn config_of_manifest(manifest: &Value) -> String {
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    }

    /// Writes a document under its digest's digits; gives the digest.
    fn put(dir: &Path, document: &Value) -> String {
        let text = document.to_string();
        let digest = Digest::of(text.as_bytes());
        fs::write(dir.join(digest.hex()), text).unwrap();
        digest.to_string()
    }

    /// An image's manifest whose config has `more`.
    fn image(dir: &Path, layers: usize, more: Value) -> Value {
        let diff_ids: Vec<_> = (0..layers).map(|at| DiffId::of(&[at as u8])).collect();
        let mut config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let layer = |at| json!({"mediaType": LAYER_TYPE, "size": 1, "digest": Digest::of(&[at as u8])});
        let layers: Vec<_> = (0..layers).map(layer).collect();
        json!({"schemaVersion": 2, "config": {"mediaType": "c", "size": 1, "digest": put(dir, &config)}, "layers": layers})
    }

    const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    #[test]
    fn docker_zstd_layers_are_ocis_and_others_are_named() {
        let read = |media_type| from_dir(folder(media_type, json!([DIFF_ID])).path(), None);
        let spec = read(LAYER_TYPE).unwrap();
        assert_eq!(spec.layers[0].media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
        for (media_type, why) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "layer 1 is encrypted"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "layer 1 may not be distributed"),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
                "layer 1 may not be distributed",
            ),
            ("", "layer 1 has no mediaType"),
        ] {
            let error = read(media_type).unwrap_err().chain();
            assert!(error.contains(why) && !error.contains("index"), "{error}");
        }
    }

    #[test]
    fn history_of_the_base_image_stays_with_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let told = |layers, history: Value| {
            let manifest = image(dir.path(), layers, json!({"history": history}));
            fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
            let config = crate::image::oci::config(&from_dir(dir.path(), None).unwrap());
            serde_json::from_slice::<Value>(&config).unwrap()["history"].clone()
        };
        let entry =
            |name: &str| json!({"created": "2020-01-01T00:00:00+01:00", "created_by": name, "comment": "c"});
        let empty = |name: &str| json!({"created_by": name, "empty_layer": true});
        let all = json!([empty("a"), entry("b"), empty("c"), empty("d"), entry("e"), empty("f")]);
        assert_eq!(told(2, all.clone()), all);
        assert_eq!(
            told(3, all.clone()),
            json!([empty("a"), entry("b"), empty("c"), empty("d"), entry("e"), empty("f"), {}])
        );
        assert_eq!(told(1, json!([entry("b"), {"created_by": "x"}])), json!([entry("b"), empty("x")]));
        assert_eq!(told(1, json!([empty("a")])), json!([empty("a"), {}]));
        for none in [json!([]), Value::Null] {
            assert_eq!(told(2, none), json!([{}, {}]), "as nix2container has it");
        }
    }

    #[test]
    fn null_lists_are_empty_ones() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"rootfs": {"diff_ids": null}, "history": null, "config": {"Env": null}, "os": null, "variant": null});
        let manifest = json!({"config": {"size": 1, "digest": put(dir.path(), &config)}, "layers": null, "annotations": null});
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        let spec = from_dir(dir.path(), None).unwrap();
        assert!(spec.layers.is_empty() && spec.arch.is_empty());
    }

    #[test]
    fn base_image_of_another_platform_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let read = |more: Value| {
            let manifest = image(dir.path(), 1, more);
            fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
            serde_json::from_slice::<Value>(&from_dir(dir.path(), None).unwrap().write()).unwrap()
        };
        let spec = read(json!({"os": "windows", "architecture": "amd64", "os.version": "10.0"}));
        assert_eq!(
            (&spec["arch"], &spec["os"], spec.get("variant")),
            (&json!("amd64"), &json!("windows"), None)
        );
        let spec = read(json!({"os": "linux", "architecture": "arm", "variant": "v7"}));
        assert_eq!((&spec["arch"], spec.get("os"), &spec["variant"]), (&json!("arm"), None, &json!("v7")));
    }

    #[test]
    fn manifest_of_several_platforms_is_listed_or_chosen_from() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |os: &str, arch: &str, variant: Option<&str>| {
            let manifest = image(dir.path(), 1, json!({"os": os, "architecture": arch, "variant": variant}));
            let mut platform = json!({"os": os, "architecture": arch});
            if let Some(variant) = variant {
                platform["variant"] = variant.into();
            }
            json!({"mediaType": "m", "size": 1, "digest": put(dir.path(), &manifest), "platform": platform})
        };
        let unknown = json!({"size": 1, "digest": Digest::of(b""), "platform": {"os": "unknown", "architecture": "unknown"}});
        let mut entries = vec![
            entry("linux", "amd64", None),
            entry("linux", "arm", Some("v6")),
            entry("linux", "arm", Some("v7")),
            unknown,
        ];
        let index = |entries: &[Value]| {
            let index = json!({"schemaVersion": 2, "manifests": entries});
            fs::write(dir.path().join("manifest.json"), index.to_string()).unwrap();
        };
        let read = |platform: &str| from_dir(dir.path(), Some(&platform.parse().unwrap()));
        index(&entries);
        let error = from_dir(dir.path(), None).unwrap_err().chain();
        assert!(error.contains("several platforms, not the manifest of one image; it has linux/amd64, linux/arm/v6, linux/arm/v7: name one with --platform, as in --platform linux/amd64"), "{error}");
        assert_eq!(read("linux/amd64").unwrap().arch, "amd64");
        assert_eq!(read("linux/arm/v7").unwrap().arch, "arm/v7");
        assert!(read("linux/arm").unwrap_err().chain().contains("it has linux/amd64, linux/arm/v6"));
        let error = read("linux/s390x").unwrap_err().chain();
        assert!(
            error.contains("has none for linux/s390x; it has linux/amd64, linux/arm/v6, linux/arm/v7"),
            "{error}"
        );
        // The one image beside its attestation.
        entries.drain(1..3);
        index(&entries);
        assert_eq!(from_dir(dir.path(), None).unwrap().arch, "amd64");

        // The same in a layout.
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for file in fs::read_dir(dir.path()).unwrap().flatten().filter(|file| file.file_name().len() == 64) {
            fs::rename(file.path(), blobs.join(file.file_name())).unwrap();
        }
        fs::rename(dir.path().join("manifest.json"), dir.path().join("index.json")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        assert_eq!(read("linux/amd64").unwrap().arch, "amd64");
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(read("linux/amd64").unwrap_err().chain().contains("imageLayoutVersion"));
    }

    #[test]
    fn documents_that_are_no_images_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = |document: Value| {
            fs::write(dir.path().join("manifest.json"), document.to_string()).unwrap();
            from_dir(dir.path(), None).unwrap_err().chain()
        };
        assert!(error(json!({"schemaVersion": 1, "fsLayers": []})).contains("Docker's schema 1"));
        assert!(
            error(json!({"schemaVersion": 2}))
                .contains("neither an image's manifest, which has a config, nor an index")
        );
        let chart = put(dir.path(), &json!({"name": "chart"}));
        let chart = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": chart, "size": 1}});
        assert!(error(chart).contains("media type \"application/vnd.cncf.helm.config.v1+json\""));
        assert!(error(json!({"config": {"digest": "sha256:1", "size": 1}})).contains("config.digest"));
    }
}
