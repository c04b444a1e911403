//! OCI layout directories.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use nixply_documents::{document, wording};
use nixply_files::open;
use nixply_oci::{Descriptor, Digest};
use nixply_packer::image::Measured;
use nixply_reports::validate::{Source, Validation, Validator};
use serde_json::Value;

/// Maximum size of a manifest, index or config, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Annotation that holds an entry's tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// Reads all images of a layout.
pub(super) fn validate(directory: &Path) -> Result<Validation> {
    let file = directory.join("index.json");
    let name = wording::path(&file).to_string();
    let text = open::linked(&file).and_then(|file| open::text(file, MAX_DOCUMENT_BYTES));
    let index = document::parse(&text.with_context(|| format!("cannot read {name}"))?, &name)?;
    let layout = Layout(directory.join("blobs/sha256"));
    let mut validator = Validator::new(&layout);
    let directory = wording::path(directory).to_string();
    let entries = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        bail!("{name} names no image");
    }
    for entry in entries {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
        let tag = entry.get("annotations").and_then(|all| all.get(TAG)).and_then(Value::as_str);
        let name = match (tag, text("/digest")) {
            (Some(tag), _) => format!("{directory}:{tag}"),
            (None, digest) => format!("{directory}@{}", digest.unwrap_or_default()),
        };
        validator.descriptor(&name, entry)?;
    }
    Ok(validator.finish())
}

/// The directory of the blobs.
struct Layout(PathBuf);

impl Layout {
    fn open(&self, digest: Digest) -> Result<Option<(PathBuf, File)>> {
        let path = self.0.join(digest.hex());
        match open::linked(&path) {
            Ok(file) => Ok(Some((path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| unreadable(&path)),
        }
    }
}

impl Source for Layout {
    type Error = Error;

    fn manifest(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.small(digest)
    }

    fn small(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let Some((path, file)) = self.open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes);
        read.with_context(|| unreadable(&path))?;
        Ok(Some(bytes))
    }

    fn layer(&self, layer: &Descriptor) -> Result<Option<Measured>> {
        let Some((path, mut file)) = self.open(layer.digest)? else { return Ok(None) };
        Measured::of(&mut file).map(Some).with_context(|| unreadable(&path))
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}", wording::path(path))
}
