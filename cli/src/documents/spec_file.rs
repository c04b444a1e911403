//! An image spec together with its file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nixply_packer::ImageSpec;
use nixply_planning::Store;

use super::Content;

/// Length of the hash in a store path's name.
const HASH: usize = 32;

/// An image spec, or another content, its file, and the store and default image name that follow from that file.
pub(crate) struct SpecFile<S = ImageSpec> {
    pub(crate) path: PathBuf,
    pub(crate) spec: S,
    /// Store of the image's store paths.
    pub(crate) store: Store,
    /// Default name of the image, taken from the file's name.
    pub(crate) name: String,
}

/// Where the files of layers (`layer-path`) may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerFiles {
    InStore,
    Anywhere,
}

impl SpecFile<Content> {
    /// Reads the spec of an image or of an image index whose store paths are in `store`.
    pub(crate) fn read_content(path: &Path, store: Store) -> Result<Self> {
        Ok(Self::new(path, super::content(path)?, store))
    }

    /// Reads the spec of an image or of an image index whose layers will be packed, perhaps for other users. All files that the spec
    /// names must be in the store, except those that `files` allows elsewhere, and the spec must belong to a trusted user.
    pub(crate) fn read_content_to_pack(path: &Path, store: Store, files: LayerFiles) -> Result<Self> {
        // A spec that is not valid and one with other paths have different messages.
        let content = super::read_content(path, |_, _| Ok(()))?;
        let outside = files == LayerFiles::Anywhere;
        match &content {
            Content::Image(spec) => spec.check_paths(&store, outside),
            Content::Index(spec) => spec.check_paths(&store, outside),
        }
        .with_context(|| super::name_of(path))?;
        store.check_owner_for(path)?;
        Ok(Self::new(path, content, store))
    }
}

impl<S> SpecFile<S> {
    fn new(path: &Path, spec: S, store: Store) -> Self {
        Self { path: path.to_owned(), spec, store, name: default_name(path) }
    }
}

/// Returns the image name that a spec's file name implies. The file is `image-NAME.json` or `index-NAME.json`, in the store with a hash
/// before it, or the target of a link such as `result`. A description has an output's name after it.
fn default_name(path: &Path) -> String {
    let target = || fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let file =
        if path.extension().is_some_and(|extension| extension == "json") { path.into() } else { target() };
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let description = ["-description", "=description"].iter().find_map(|suffix| file.strip_suffix(suffix));
    let file = description.filter(|file| file.contains(".json")).unwrap_or(&file);
    let name = file.strip_suffix(".json").unwrap_or(file);
    let without_hash = name.get(HASH..).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name);
    let plain = ["image-", "index-"].iter().find_map(|kind| without_hash.strip_prefix(kind));
    plain.unwrap_or(without_hash).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_come_from_file_names() {
        for (path, name) in [
            ("image-hello.json", "hello"),
            ("index-hello.json", "hello"),
            ("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-image-hello.json", "hello"),
            ("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-image-hello.json-description", "hello"),
            ("out/image.json", "image"),
            ("other", "other"),
        ] {
            assert_eq!(default_name(Path::new(path)), name, "{path}");
        }
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("result"), directory.path().join("image-linked.json"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(default_name(&link), "linked");
    }
}
