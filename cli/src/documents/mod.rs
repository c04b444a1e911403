//! Files that commands read: requests, closures, image specs, lock files. If a file is of the wrong kind, the error names its
//! kind and the command that accepts it.

mod content;
mod kind;
pub(crate) mod lock_file;
mod spec_file;

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use nixply_documents::{document, wording};
use nixply_files::{given, open};
use nixply_packer::image::IndexSpec;
use nixply_packer::{FleetRequest, ImageRequest, ImageSpec};
use nixply_planning::{Closure, Store};
use serde_json::Value;

pub(crate) use self::content::Content;
use self::kind::{Kind, format_of, is_installable, is_nix};
pub(crate) use self::spec_file::{LayerFiles, SpecFile};
use crate::failure::hinted;
use crate::process;

/// Returns the name of a file for messages.
pub(crate) fn name_of(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard input".into(),
        false => wording::path(path).to_string(),
    }
}

/// Reads the request of one image.
pub(crate) fn request(path: &Path) -> Result<ImageRequest> {
    read(path, Kind::Request, ImageRequest::from_json)
}

/// Reads the requests of several images, by image name.
pub(crate) fn fleet(path: &Path) -> Result<FleetRequest> {
    read(path, Kind::Fleet, FleetRequest::from_json)
}

/// Reads an image spec: `image.json`, or a result link to one. All its paths must be store paths of one store.
pub(crate) fn spec(path: &Path) -> Result<ImageSpec> {
    read(path, Kind::Spec, checked_spec)
}

fn checked_spec(text: &str, name: &str) -> nixply_packer::Result<ImageSpec> {
    let spec = ImageSpec::read(text, name)?;
    spec.check_names(name)?;
    Ok(spec)
}

/// Reads the spec of an image or of an image index. All paths of an image must be store paths of one store.
pub(crate) fn content(path: &Path) -> Result<Content> {
    read_content(path, |content, name| match content {
        Content::Image(spec) => spec.check_names(name),
        Content::Index(spec) => spec.check_names(name),
    })
}

/// Reads the spec of an image or of an image index, and checks it.
fn read_content(path: &Path, check: impl Fn(&Content, &str) -> nixply_packer::Result<()>) -> Result<Content> {
    let (text, name) = (text(path, Kind::Spec)?, name_of(path));
    let kind = document::parse(&text, &name).ok().as_ref().and_then(Kind::of);
    let wanted = kind.filter(|kind| *kind == Kind::Index).unwrap_or(Kind::Spec);
    let read = || {
        let content = match wanted {
            Kind::Index => Content::Index(IndexSpec::read(&text, &name)?),
            _ => Content::Image(ImageSpec::read(&text, &name)?),
        };
        check(&content, &name)?;
        Ok::<_, nixply_packer::Error>(content)
    };
    read().map_err(|error| explained(error.into(), &text, path, wanted))
}

/// Reads a closure of store paths of `store`.
pub(crate) fn closure(path: &Path, store: &Store) -> Result<Closure> {
    read(path, Kind::Closure, |text, name| Closure::read(text, name, store))
}

/// Reads a closure for a command that does not know the store. All paths must be in the same one.
pub(crate) fn closure_of_one_store(path: &Path) -> Result<Closure> {
    read(path, Kind::Closure, Closure::read_of_one_store)
}

/// A spec or a request.
pub(crate) enum SpecOrRequest {
    Spec(Box<ImageSpec>),
    Request(Box<ImageRequest>),
}

/// Reads a spec or a request. Only specs have a `version`.
pub(crate) fn spec_or_request(path: &Path) -> Result<SpecOrRequest> {
    let (text, name) = (text(path, Kind::Spec)?, name_of(path));
    let read = || -> Result<SpecOrRequest, nixply_packer::Error> {
        let value = document::parse(&text, &name)?;
        if value.get("version").is_some() {
            return checked_spec(&text, &name).map(|spec| SpecOrRequest::Spec(Box::new(spec)));
        }
        ImageRequest::from_json(&text, &name).map(|request| SpecOrRequest::Request(Box::new(request)))
    };
    read().map_err(|error| explained(error.into(), &text, path, Kind::Spec))
}

fn read<T, E: Into<anyhow::Error>>(
    path: &Path,
    wanted: Kind,
    read: impl Fn(&str, &str) -> Result<T, E>,
) -> Result<T> {
    let text = text(path, wanted)?;
    read(&text, &name_of(path)).map_err(|error| explained(error.into(), &text, path, wanted))
}

/// Reads a file's text; `-` is standard input.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let name = name_of(path);
    let read = match path == Path::new("-") {
        true => given::standard_input(&process::stopped),
        false => given::text(path, &process::stopped),
    };
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(match format_of(&first_bytes(path)) {
                Some(format) => anyhow!("{name} is {format}, not text"),
                // The error is "it is not text: ...". The document's name replaces "it".
                None => anyhow!("{name}{}", error.to_string().trim_start_matches("it")),
            })
        }
        read => process::unless_stopped(read).with_context(|| format!("cannot read {name}")),
    }
}

/// Reads enough of a regular file to guess its format.
fn first_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // On errors the format stays unknown.
    let _ = open::linked(path).and_then(|file| file.take(512).read_to_end(&mut bytes));
    bytes
}

/// Reads a text file like [`read_text`]. Errors have a hint if the path or the file suggests another kind.
fn text(path: &Path, wanted: Kind) -> Result<String> {
    let file = name_of(path);
    read_text(path).map_err(|error| match path {
        _ if path.is_dir() => {
            let inside =
                ["image.json", "layers.json"].iter().map(|name| path.join(name)).find(|path| path.is_file());
            let is_layout = path.join("oci-layout").is_file();
            let hint = match inside {
                Some(inside) => format!("pass the file in it: {}", wording::path(&inside)),
                None if is_layout => format!("inspect the OCI layout with skopeo inspect oci:{file}"),
                None => wanted.source().into(),
            };
            hinted(anyhow!("{file} is a directory, not {}", wanted.name()), hint)
        }
        _ if !path.exists() && is_installable(&file) => {
            let hint = format!("build it first: nix build {file}, then nixply inspect result");
            hinted(anyhow!("{file} is a Nix installable, not a file"), hint)
        }
        _ if path.exists() && error.source().is_none() => hinted(error, wanted.source()),
        _ => error,
    })
}

/// If the file's kind differs from `wanted`, replaces the error and adds a hint.
fn explained(error: Error, text: &str, path: &Path, wanted: Kind) -> Error {
    let file = name_of(path);
    let parsed = document::parse(text, &file);
    let kind = parsed.as_ref().ok().and_then(Kind::of);
    let other = kind.filter(|kind| *kind != wanted);
    match (parsed, other) {
        (Ok(_), None) if kind.is_some() => error,
        (_, Some(kind)) => {
            let hint = kind.hint(wanted, &file);
            hinted(anyhow!("{file} is {}, not {}", kind.name(), wanted.name()), hint)
        }
        (Err(_), _) if is_nix(path, text) => {
            let what = anyhow!("{file} is a Nix expression, not {}", wanted.name());
            hinted(what, format!("build it first: nix build -f {file}, then nixply inspect result"))
        }
        (
            Err(_) | Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)),
            _,
        ) => hinted(error, wanted.source()),
        (Ok(_), None) => error,
    }
}
