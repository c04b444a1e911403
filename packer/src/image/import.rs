//! Images of other tools, as specs whose layers are blobs in files: base images for `fromImage`. Source: nix2container's
//! `NewImageFromDir` and `NewImageFromManifest`. In addition, the spec contains the layers' sizes (its #207), the config,
//! which an image on top may inherit (its #79), the history (its #57), and the platform.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nixply_documents::go_json::null_is_default;
use nixply_documents::{Error as DocumentError, document, wording};
use nixply_files::open;
use nixply_oci::{DiffId, Digest, History, ImageConfig, Platform};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::index::{Kind, check_kind, is_layout, tag_of};
use super::spec::{ImageSpec, Layer};
use crate::cache::LayerKey;
use crate::compress::Codec;
use crate::error::{Error, Result};

/// Maximum size of a manifest, index or config, in bytes. No real one is that large.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Maximum depth of nested indexes.
const MAX_INDEX_DEPTH: usize = 4;

impl ImageSpec {
    /// Reads a directory written by skopeo's `dir:` transport: `manifest.json`, and each blob in a file named after its digest's
    /// digits. Also reads an OCI layout. `wanted` selects an entry from an index of several platforms.
    pub fn from_dir(dir: &Path, wanted: Option<&Platform>) -> Result<Self> {
        let (manifest, layout) = (dir.join("manifest.json"), dir.join("index.json"));
        if !manifest.exists() && layout.exists() {
            is_layout(dir)?;
            return import(&layout, wanted, |digest| Ok(dir.join("blobs/sha256").join(digest.hex())));
        }
        import(&manifest, wanted, |digest| {
            // Skopeo's name for the manifests of an index.
            let manifest = dir.join(format!("{}.manifest.json", digest.hex()));
            Ok(if manifest.exists() { manifest } else { dir.join(digest.hex()) })
        })
    }

    /// Reads a manifest. `blobs` maps the digits of each blob's digest to its file. `wanted` selects an entry from an index of
    /// several platforms; the entry's manifest is also one of these blobs.
    pub fn from_manifest(
        manifest: &Path,
        blobs: &HashMap<String, PathBuf>,
        wanted: Option<&Platform>,
    ) -> Result<Self> {
        import(manifest, wanted, |digest| {
            let missing = || {
                let why = format!("the map of blobs has no file for {digest}");
                Error::invalid(manifest.display().to_string(), why)
            };
            blobs.get(&digest.hex()).cloned().ok_or_else(missing)
        })
    }

    /// Checks that a text is the manifest of one image, and not an index or a document of another kind. The name is used in messages.
    pub fn check_manifest((name, text): (&Path, &str)) -> Result<()> {
        match check(&document::read(text, &name.display().to_string())?, name)? {
            Kind::Manifest => Ok(()),
            Kind::Index => Err(Error::invalid(
                name.display().to_string(),
                "it is an index, not the manifest of one image",
            )),
        }
    }

    /// Reads an image that is not in files, such as one in a registry, from its manifest and its config. The layers of the spec have neither
    /// paths nor files. The names of the documents are used in messages.
    pub fn from_documents(manifest: (&Path, &str), config: (&Path, &str)) -> Result<Self> {
        Self::check_manifest(manifest)?;
        let document: Manifest = document::read(manifest.1, &manifest.0.display().to_string())?;
        check_digest(config.0, Some(&document.config.digest), Digest::of(config.1.as_bytes()))?;
        let annotations = document.annotations.clone();
        let value: Value = document::read(config.1, &config.0.display().to_string())?;
        let created = value.get("created").and_then(Value::as_str).map(str::to_owned);
        let spec = spec(manifest.0, document, (config.0, value), None, |_, _| Ok(None))?;
        Ok(Self { annotations, created, ..spec })
    }
}

#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<Blob>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
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
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
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
    let (file, manifest) = manifest(document, wanted, &blob)?;
    let config = blob(&manifest.config.digest)?;
    let document = read(&config, "the image's config", Some(&manifest.config.digest))?;
    spec(&file, manifest, (&config, document), wanted, |layer, at| {
        let file = blob(&layer.digest)?;
        check_blob(&file, layer, at)?;
        let name =
            file.to_str().ok_or_else(|| Error::invalid(file.display().to_string(), "it is not UTF-8"))?;
        Ok(Some(name.to_owned()))
    })
}

/// Makes the spec of a manifest and a config. `file` returns the file of a layer.
fn spec(
    manifest: &Path,
    Manifest { config, layers, .. }: Manifest,
    (config_file, document): (&Path, Value),
    wanted: Option<&Platform>,
    file: impl Fn(&Blob, usize) -> Result<Option<String>>,
) -> Result<ImageSpec> {
    let wrong = |why: String| Error::invalid(manifest.display().to_string(), why);
    if document.get("rootfs").is_none() {
        return Err(wrong(format!(
            "it is not the manifest of an image: its config has no rootfs (media type {:?}); Helm charts and other artifacts \
             cannot be a base image",
            config.media_type
        )));
    }
    let Config { platform, config: base, rootfs: RootFs { diff_ids }, history } =
        parse(document, config_file, "")?;
    let platform = platform.canonical();
    if let Some(variants) = platform.other_variants() {
        let (place, arch) = (format!("{}: variant", config_file.display()), &platform.architecture);
        let must = format!("one of {} for the architecture {arch}", variants.join(", "));
        return Err(
            DocumentError::must(place, &must, wording::value(&platform.variant.as_str().into())).into()
        );
    }
    if let Some(wanted) = wanted.filter(|wanted| !platform.architecture.is_empty() && !platform.is(wanted)) {
        return Err(Error::OtherPlatform {
            manifest: manifest.to_owned(),
            found: platform.to_string(),
            wanted: wanted.to_string(),
        });
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
        let layer_path = file(&layer, at)?;
        let key = LayerKey::of_annotations(&layer.annotations);
        Ok(Layer {
            digest: layer.digest,
            size: layer.size,
            diff_id,
            paths: Vec::new(),
            media_type: media_type.into(),
            key: key.filter(|_| layer_path.is_none()),
            layer_path,
            compression: None,
            history: History::default(),
            history_before: Vec::new(),
            history_after: Vec::new(),
        })
    });
    let mut layers: Vec<Layer> = imported.collect::<Result<_>>()?;
    assign_history(&mut layers, history);
    Ok(ImageSpec {
        version: 1,
        config: base.unwrap_or_default(),
        layers,
        arch: platform.short(),
        created: None,
        annotations: BTreeMap::new(),
    })
}

/// Assigns each layer its history entry, and the entries without a layer before it. If there are too few entries, the last
/// layers have none. If there are too many, the last entries have no layer.
fn assign_history(layers: &mut [Layer], history: Vec<History>) {
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

/// Returns the manifest of one image: `document` itself, or the entry for `wanted` if `document` is an index.
fn manifest(
    document: &Path,
    wanted: Option<&Platform>,
    blob: impl Fn(&Digest) -> Result<PathBuf>,
) -> Result<(PathBuf, Manifest)> {
    let mut file = document.to_path_buf();
    let mut expected = None;
    for _ in 0..=MAX_INDEX_DEPTH {
        let value: Value = read(&file, "the image's manifest", expected.as_ref())?;
        let is_index = check(&value, &file)? == Kind::Index;
        if !is_index {
            let manifest = parse(value, &file, "")?;
            return Ok((file, manifest));
        }
        let digest = choose(&value, &file, wanted)?;
        file = blob(&digest)?;
        expected = Some(digest);
    }
    Err(Error::invalid(
        document.display().to_string(),
        format!("more than {MAX_INDEX_DEPTH} indexes are nested in it"),
    ))
}

/// Checks that a document is a manifest or an index, and returns which of them.
fn check(value: &Value, file: &Path) -> Result<Kind> {
    let wrong = |why: &str| Error::invalid(file.display().to_string(), why);
    if value.get("fsLayers").is_some() {
        return Err(wrong(
            "it is a manifest of Docker's schema 1, which has no config: copy the image with skopeo copy --format oci",
        ));
    }
    if let Some(version) = value.get("schemaVersion").filter(|version| !version.is_null() && **version != 2) {
        return Err(wrong(&format!("its schemaVersion is {version}, but this nixply supports only 2")));
    }
    let kind = if value.get("manifests").is_some() { Kind::Index } else { Kind::Manifest };
    check_kind(value, kind).map_err(|fault| Error::content(format!("{}{fault}", file.display())))?;
    if kind == Kind::Manifest && value.get("config").is_none() {
        return Err(wrong("it is neither an image's manifest, which has a config, nor an index"));
    }
    Ok(kind)
}

/// Media types of an image's config, OCI's and Docker's.
const CONFIGS: [&str; 2] = [nixply_oci::CONFIG, "application/vnd.docker.container.image.v1+json"];

/// Returns the digest of the manifest for `wanted` in an index, or of the only manifest.
fn choose(index: &Value, file: &Path, wanted: Option<&Platform>) -> Result<Digest> {
    let wrong = |why: String| Error::invalid(file.display().to_string(), why);
    let list = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut entries: Vec<(Entry, Option<&str>)> = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        // Signatures, SBOMs and the like are not images. Some tools set `artifactType` to the config's type for an image.
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
    // Among variants, chooses the requested one, otherwise the latest one before it. If no variant is requested, chooses the
    // entry without one.
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
    if entries.is_empty() {
        return Err(wrong("it is an index without an image".into()));
    }
    match wanted {
        Some(wanted) if chosen.is_empty() => {
            Err(wrong(format!("it is an index without an image for {wanted}; it has {has}")))
        }
        _ => {
            let example = example.map(Platform::to_string);
            Err(Error::SeveralPlatforms { index: file.to_path_buf(), has, example })
        }
    }
}

/// Returns OCI's media type for a layer's type by Docker or OCI. Fails with the reason if there is none.
fn media_type(layer: &Blob, at: usize) -> Result<&'static str, String> {
    let (text, layer, number) = (layer.media_type.as_str(), layer, at + 1);
    if let Some(codec) = Codec::of_media_type(text) {
        return Ok(codec.media_type());
    }
    match text {
        _ if text.ends_with("+encrypted") => Err(format!(
            "layer {number} is encrypted ({}): decrypt the image first, for example with skopeo copy --decryption-key",
            wording::quoted(text)
        )),
        _ if text.contains(".foreign.") || text.contains(".nondistributable.") => {
            let from = if layer.urls.is_empty() { "elsewhere".into() } else { layer.urls.join(", ") };
            Err(format!(
                "layer {number} may not be distributed with the image ({}, from {from}), like those of Windows: use a base \
                 image without such layers",
                wording::quoted(text)
            ))
        }
        "" => Err(format!("layer {number} has no mediaType")),
        _ => {
            let codecs: Vec<&str> = Codec::all().map(Codec::name).collect();
            Err(format!(
                "layer {number} has an unsupported media type: {}; layers are tar with one of the codecs {}",
                wording::quoted(text),
                codecs.join(", ")
            ))
        }
    }
}

/// Reads a document. Checks its digest if another document names it by its digest. `what` is used in messages.
fn read<T: for<'de> Deserialize<'de>>(file: &Path, what: &str, expected: Option<&Digest>) -> Result<T> {
    let failed = |source| Error::unreadable(what, file, source);
    let text = open::text(open::linked(file).map_err(failed)?, MAX_DOCUMENT_BYTES).map_err(failed)?;
    check_digest(file, expected, Digest::of(text.as_bytes()))?;
    Ok(document::read(&text, &file.display().to_string())?)
}

fn check_digest(file: &Path, expected: Option<&Digest>, found: Digest) -> Result<()> {
    match expected.filter(|expected| **expected != found) {
        None => Ok(()),
        Some(expected) => Err(Error::BlobMismatch { expected: *expected, found, path: file.to_path_buf() }),
    }
}

/// Checks that a layer's file has the size and digest from the manifest. A missing file is not an error here, because its
/// reader reports it: nix2container names files without looking at them.
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
            "layer {}, {}, has {found} bytes, but the manifest records {}",
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
    Ok(document::fill_at(value, &file.display().to_string(), place)?)
}

#[cfg(test)]
mod tests;
