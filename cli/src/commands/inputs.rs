//! The files that commands read: requests, closures, images' specs. Where a file is not what the command takes, this says what
//! it is and which command takes it.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use nixply_packer::closure::{Closure, Store};
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::request::{FleetRequest, ImageRequest};
use nixply_packer::wording;
use nixply_packer::{document, given, open};
use serde_json::Value;

use crate::failure::hinted;
use crate::interrupt;

/// What a command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Fleet,
    Spec,
    Layers,
    Closure,
    Lock,
    OciIndex,
    OciManifest,
    OciConfig,
    Derivation,
}

impl Kind {
    /// What the user calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Request => "an image's request",
            Self::Fleet => "an object of images' requests",
            Self::Spec => "an image's spec",
            Self::Layers => "a list of layers (layers.json)",
            Self::Closure => "a closure",
            Self::Lock => "a lock file",
            Self::OciIndex => "an OCI index",
            Self::OciManifest => "an OCI manifest",
            Self::OciConfig => "an OCI image's config",
            Self::Derivation => "a derivation",
        }
    }

    /// Where the command's own input comes from.
    fn source(self) -> &'static str {
        match self {
            Self::Request => {
                "a request is JSON with the arguments of builtins.nixplyImage, such as {\"config\": {...}}"
            }
            Self::Fleet => "without --images, a request is that of one image",
            Self::Closure => "a closure is what `nix path-info --json --recursive PATH` prints",
            _ => "an image's spec is the image.json that nixply build writes, or a result link to one",
        }
    }

    /// What to do with a file of this kind that stands where another one is expected.
    fn way_out(self, wanted: Self, file: &str) -> String {
        match self {
            Self::Spec if wanted == Self::Request => format!("nixply inspect {file} shows its layers"),
            Self::Request if wanted == Self::Spec => {
                format!("nixply build {file} -o image.json makes one of it")
            }
            Self::Fleet if wanted == Self::Request => "pass --images to nixply plan".into(),
            Self::Request if wanted == Self::Fleet => "leave --images out".into(),
            Self::OciIndex | Self::OciManifest | Self::OciConfig => {
                "skopeo copy OCI-LAYOUT dir:FOLDER, then nixply n2c image-from-dir image.json FOLDER, makes a spec of it"
                    .into()
            }
            Self::Closure => format!("pass it as --closure {file}; {}", wanted.source()),
            _ => wanted.source().into(),
        }
    }

    /// What a document is by its keys. None if they fit nothing.
    fn of(value: &Value) -> Option<Self> {
        let has = |key: &str| value.get(key).is_some();
        let first_has = |key: &str| value.get(0).is_some_and(|first| first.get(key).is_some());
        let mut entries = value.as_object().into_iter().flatten();
        let is_derivation =
            |(key, value): (&String, &Value)| key.ends_with(".drv") && value.get("outputs").is_some();
        let are_requests =
            value.as_object().is_some_and(|keys| !keys.is_empty() && keys.values().all(is_request));
        // The first that fits.
        let kinds = [
            (first_has("diff_ids"), Self::Layers),
            (first_has("path"), Self::Closure),
            (entries.clone().any(is_derivation), Self::Derivation),
            (has("version") && has("layers") && has("release"), Self::Lock),
            (has("version") && has("layers"), Self::Spec),
            (has("manifests"), Self::OciIndex),
            (has("schemaVersion") && has("layers"), Self::OciManifest),
            (has("rootfs"), Self::OciConfig),
            (has("info") && has("storeDir") || entries.any(|(key, _)| key.starts_with('/')), Self::Closure),
            (is_request(value), Self::Request),
            (are_requests, Self::Fleet),
        ];
        kinds.into_iter().find(|(fits, _)| *fits).map(|(_, kind)| kind)
    }
}

/// Whether an object has one of the arguments that say what is in an image.
fn is_request(value: &Value) -> bool {
    ["config", "copyToRoot", "layers"].iter().any(|key| value.get(key).is_some())
}

/// What messages call a file.
pub(super) fn name_of(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard input".into(),
        false => wording::path(path).to_string(),
    }
}

/// Reads a request.
pub(super) fn request(path: &Path) -> Result<ImageRequest> {
    read(path, Kind::Request, ImageRequest::from_json)
}

/// Reads several images' requests, by name.
pub(super) fn fleet(path: &Path) -> Result<FleetRequest> {
    read(path, Kind::Fleet, FleetRequest::from_json)
}

/// Reads a spec's file: `image.json`, or a result link to one. Its paths are store paths of one store.
pub(super) fn spec(path: &Path) -> Result<ImageSpec> {
    read(path, Kind::Spec, named_spec)
}

fn named_spec(text: &str, name: &str) -> nixply_packer::Result<ImageSpec> {
    let spec = ImageSpec::read(text, name)?;
    spec.check_names(name)?;
    Ok(spec)
}

/// Reads a spec whose files are going to be read, by others perhaps: all that it names must be in the store. `outside` allows
/// layers' own files to be elsewhere.
pub(super) fn spec_within(path: &Path, store: &Store, outside: bool) -> Result<ImageSpec> {
    let spec = read(path, Kind::Spec, ImageSpec::read)?;
    spec.check_paths(store, outside).with_context(|| name_of(path))?;
    store.check_owner_for(path)?;
    Ok(spec)
}

/// Reads a closure of store paths of `store`.
pub(super) fn closure(path: &Path, store: &Store) -> Result<Closure> {
    read(path, Kind::Closure, |text, name| Closure::read(text, name, store))
}

/// Reads a closure for a command that knows no store: its paths are all in one.
pub(super) fn closure_of_one_store(path: &Path) -> Result<Closure> {
    read(path, Kind::Closure, Closure::read_of_one_store)
}

/// What a file has: a spec or a request.
pub(super) enum SpecOrRequest {
    Spec(Box<ImageSpec>),
    Request(Box<ImageRequest>),
}

/// Reads a spec or a request, which has no version.
pub(super) fn spec_or_request(path: &Path) -> Result<SpecOrRequest> {
    let (text, name) = (text(path, Kind::Spec)?, name_of(path));
    let read = || -> Result<SpecOrRequest, nixply_packer::Error> {
        let value = document::parse(&text, &name)?;
        if value.get("version").is_some() {
            return named_spec(&text, &name).map(|spec| SpecOrRequest::Spec(Box::new(spec)));
        }
        ImageRequest::from_json(&text, &name).map(|request| SpecOrRequest::Request(Box::new(request)))
    };
    read().map_err(|error| explained(error.into(), &text, path, Kind::Spec))
}

fn read<T>(path: &Path, wanted: Kind, read: impl Fn(&str, &str) -> nixply_packer::Result<T>) -> Result<T> {
    let text = text(path, wanted)?;
    read(&text, &name_of(path)).map_err(|error| explained(error.into(), &text, path, wanted))
}

/// Reads a file's text; `-` is standard input.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let name = name_of(path);
    let read = match path == Path::new("-") {
        true => given::standard_input(&interrupt::stopped),
        false => given::text(path, &interrupt::stopped),
    };
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(match format_of(&first_bytes(path)) {
                Some(format) => anyhow!("{name} is {format}, not text"),
                // "it is not text: ..."
                None => anyhow!("{name}{}", error.to_string().trim_start_matches("it")),
            })
        }
        read => interrupt::unless_stopped(read).with_context(|| format!("cannot read {name}")),
    }
}

/// A regular file's first bytes, enough to tell its format.
fn first_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Without them, its format is unknown.
    let _ = open::linked(path).and_then(|file| file.take(512).read_to_end(&mut bytes));
    bytes
}

/// As [`read_text`], with a way out where the name or the file is of another kind.
fn text(path: &Path, wanted: Kind) -> Result<String> {
    let file = name_of(path);
    read_text(path).map_err(|error| match path {
        _ if path.is_dir() => {
            let inside =
                ["image.json", "layers.json"].iter().map(|name| path.join(name)).find(|path| path.is_file());
            let is_layout = path.join("oci-layout").is_file();
            let hint = match inside {
                Some(inside) => format!("name the file in it: {}", wording::path(&inside)),
                None if is_layout => format!("skopeo inspect oci:{file} shows an OCI layout"),
                None => wanted.source().into(),
            };
            hinted(anyhow!("{file} is a directory, not {}", wanted.name()), hint)
        }
        _ if !path.exists() && is_installable(&file) => {
            let hint = format!("nix build {file}, then nixply inspect result");
            hinted(anyhow!("{file} is an installable of Nix, not a file"), hint)
        }
        _ if path.exists() && error.source().is_none() => hinted(error, wanted.source()),
        _ => error,
    })
}

/// Whether a name that is no file is how `nix build` names what it builds.
fn is_installable(name: &str) -> bool {
    name.contains('#')
        || name.starts_with("github:")
        || name.starts_with("nixpkgs.")
        || name.starts_with("flake:")
}

/// What the bytes of a file that is no text are, by its first ones.
fn format_of(bytes: &[u8]) -> Option<&'static str> {
    let formats: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\x7fELF", "a program"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x89PNG", "a picture"),
        (b"SQLite format 3\0", "a SQLite database"),
        (b"\xff\xfe", "text in UTF-16"),
        (b"\xfe\xff", "text in UTF-16"),
    ];
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    let known = formats.iter().find(|(first, _)| bytes.starts_with(first)).map(|(_, name)| *name);
    known.or(is_tar.then_some("a tar archive"))
}

/// Whether a text that is no JSON is Nix's language.
fn is_nix(path: &Path, text: &str) -> bool {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let starts = ["let ", "with ", "import ", "rec ", "{ pkgs", "{pkgs", "{ lib", "{ config,", "inherit "];
    let starts = starts.iter().any(|start| code.trim_start().starts_with(start));
    path.extension().is_some_and(|extension| extension == "nix") || starts || code.contains("builtins.nixply")
}

/// An error with what the file is, if it is of another kind than `wanted`.
fn explained(error: Error, text: &str, path: &Path, wanted: Kind) -> Error {
    let file = name_of(path);
    let parsed = document::parse(text, &file);
    let kind = parsed.as_ref().ok().and_then(Kind::of);
    let other = kind.filter(|kind| *kind != wanted);
    match (parsed, other) {
        (Ok(_), None) if kind.is_some() => error,
        (_, Some(kind)) => {
            let hint = kind.way_out(wanted, &file);
            hinted(anyhow!("{file} is {}, not {}", kind.name(), wanted.name()), hint)
        }
        (Err(_), _) if is_nix(path, text) => {
            let what = anyhow!("{file} is an expression of Nix, not {}", wanted.name());
            hinted(what, format!("nix build -f {file}, then nixply inspect result"))
        }
        (
            Err(_) | Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)),
            _,
        ) => hinted(error, wanted.source()),
        (Ok(_), None) => error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_known_by_their_keys() {
        for (value, kind) in [
            (json!({"version": 1, "layers": []}), Some(Kind::Spec)),
            (json!({"version": 1, "release": 2, "layers": []}), Some(Kind::Lock)),
            (json!({"config": {}, "layers": []}), Some(Kind::Request)),
            (json!({"web": {"config": {}}, "worker": {"config": {}}}), Some(Kind::Fleet)),
            (json!({"schemaVersion": 2, "manifests": []}), Some(Kind::OciIndex)),
            (json!({"schemaVersion": 2, "config": {}, "layers": []}), Some(Kind::OciManifest)),
            (json!([{"path": "/nix/store/x", "references": []}]), Some(Kind::Closure)),
            (json!({"/nix/store/x": {"references": []}}), Some(Kind::Closure)),
            (json!({"/nix/store/x.drv": {"outputs": {}}}), Some(Kind::Derivation)),
            (json!([{"digest": "x", "diff_ids": "y"}]), Some(Kind::Layers)),
            (json!({"confg": {}}), None),
            (json!({}), None),
            (json!([]), None),
            (json!(3), None),
        ] {
            assert_eq!(Kind::of(&value), kind, "{value}");
        }
    }

    #[test]
    fn nix_is_known_by_its_first_words() {
        for (file, text, is) in [
            ("image.nix", "", true),
            ("image", "# An image.\n{ pkgs ? import <nixpkgs> { } }:\n", true),
            ("image", "let x = 1; in x", true),
            ("image.json", "{\"config\": ", false),
            ("README.md", "# nixply\n\nOCI images", false),
        ] {
            assert_eq!(is_nix(Path::new(file), text), is, "{file} {text}");
        }
    }
}
