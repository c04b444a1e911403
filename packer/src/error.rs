//! Errors of planning, packing and writing an image.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use nixply_documents::{Error as DocumentError, wording};
use nixply_files::Error as FileError;
use nixply_oci::{DiffId, Digest};
use nixply_planning::{Error as PlanningError, ParseStorePathError, StorePath};

use crate::layer::PackedLayer;

/// The packer's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the packer. Messages name the subject, its path or place and, if there is one, a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document, or a value in it, is not valid.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A closure, rule, lock file or plan is not valid.
    #[error(transparent)]
    Planning(PlanningError),
    /// A store path of the closure does not exist (any more).
    #[error(
        "store path does not exist: it was never realised, or deleted, for example by a garbage collection; restore it with \
         nix-store --realise (with nix-store --repair-path if Nix still lists it), and protect it from garbage collection \
         while it is packed: {}",
        wording::path(path)
    )]
    Missing {
        /// The store path.
        path: PathBuf,
    },
    /// A file or directory of a store path was deleted or changed while it was read.
    #[error(
        "store path changed while it was packed ({what}); store paths are immutable, so it was deleted or damaged: \
         check it with nix-store --verify-path and build again: {}",
        wording::path(path)
    )]
    Changed {
        /// The observed change.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// The content of a store path does not match its hash in Nix's database.
    #[error(
        "store path is damaged: the hash of its archive is {found}, but Nix recorded {expected}; it was not packed: \
         repair it with nix-store --repair-path and build again: {path}"
    )]
    Damaged {
        /// The store path.
        path: StorePath,
        /// Hash in the closure.
        expected: String,
        /// Hash of the actual content.
        found: String,
    },
    /// A file in the store has a mode that Nix never sets there.
    #[error(
        "mode {mode:04o} in the store differs from the mode that Nix sets, {wanted}; the store path was not packed: restore the \
         mode with chmod, or repair the store path with nix-store --repair-path, and build again: {}",
        path.display()
    )]
    StoreMode {
        /// The file's permission bits with setuid, setgid and sticky.
        mode: u32,
        /// The allowed modes.
        wanted: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A store path contains a socket, device or FIFO.
    #[error(
        "{kind} cannot be packed; only files, directories and symlinks can be in a store path: {}",
        wording::path(path)
    )]
    SpecialFile {
        /// The kind of file.
        kind: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// An update of a lock file lacks some of its images.
    #[error("this update would remove {} from the lock file: plan all its images together", .images.join(", "))]
    ImagesMissing {
        /// Names of the missing images.
        images: Vec<String>,
    },
    /// A document is an OCI manifest or index where an image's spec is expected.
    #[error("{document} is an OCI manifest or index, not an image's spec")]
    NotSpec {
        /// The document's name.
        document: String,
    },
    /// A document is the spec of an image index where an image's spec is expected.
    #[error("{document} is the spec of an image index, not of one image")]
    SpecOfIndex {
        /// The document's name.
        document: String,
    },
    /// A document is an image's spec where the spec of an image index is expected.
    #[error("{document} is an image's spec, not the spec of an image index")]
    SpecOfImage {
        /// The document's name.
        document: String,
    },
    /// A manifest is not for the requested platform.
    #[error("{} is the manifest of an image for {found}, not for {wanted}", manifest.display())]
    OtherPlatform {
        /// The manifest's file.
        manifest: PathBuf,
        /// The manifest's platform.
        found: String,
        /// The requested platform.
        wanted: String,
    },
    /// An index does not identify a single image: it has several that match, or none.
    #[error("{} is an index of several platforms, not the manifest of one image; it has {has}", index.display())]
    SeveralPlatforms {
        /// The index's file.
        index: PathBuf,
        /// The index's images, for messages.
        has: String,
        /// One of its platforms; `None` if it names no platforms.
        example: Option<String>,
    },
    /// One of several images has an error.
    #[error("image {image}")]
    OfImage {
        /// The image's key.
        image: String,
        /// The error.
        source: Box<Error>,
    },
    /// Two files need the same place in the image. Where nix2container also refuses, the message is nix2container's.
    #[error("{0}; remove one of the two, or give one of them its own place")]
    Conflict(String),
    /// A file has a name that unpackers treat as a deletion.
    #[error(
        "a name that begins with .wh. is a whiteout in an OCI layer: unpacked, the file would vanish and could delete \
         others; rename the file, or leave its store path out: {}",
        wording::path(path)
    )]
    Whiteout {
        /// The file.
        path: PathBuf,
    },
    /// The image has more layers than container runtimes accept.
    #[error(
        "the image would have {layers} layers, but container runtimes support at most {limit}: lower maxLayers, merge \
         layers, or raise layerLimit if your runtime supports more"
    )]
    TooManyLayers {
        /// Number of layers that the image would have.
        layers: usize,
        /// Maximum number of layers.
        limit: usize,
    },
    /// Packing produced a tar stream that differs from the one in the spec.
    #[error(
        "layer {} no longer has the content that its image spec records: expected {expected}, found {found}; \
         one of these store paths has changed since then (nix-store --verify-path finds it), or the spec was made on \
         another machine from other content: {}", layer + 1, some(paths)
    )]
    DigestMismatch {
        /// The layer's index in the image, from 0.
        layer: usize,
        /// The recorded digest.
        expected: DiffId,
        /// Digest of the packed tar stream.
        found: DiffId,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// Packing produced a layer that differs from the one in the cache.
    #[error(
        "a layer differs from the one {}: expected {expected}, found {found}; one of these store paths is damaged \
         (nix-store --verify-path finds it), or {}: {}",
        named_by.as_ref().map_or("in the cache".into(), |source| format!("that {source} names")),
        match named_by {
            Some(_) => "that image was made wrongly; its digests are now removed from the cache",
            None => "the layer was imported from a wrong spec, whose entries are now removed from the cache",
        },
        some(paths)
    )]
    LayerChanged {
        /// The layer in the cache.
        expected: Box<PackedLayer>,
        /// The packed layer.
        found: Box<PackedLayer>,
        /// The image in a registry that named the expected layer.
        named_by: Option<String>,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// Packing produced a blob that differs from the one in the spec, although the content is the same.
    #[error(
        "layer {} has a different blob than its image spec records: expected {expected} of {expected_size} bytes, found \
         {found} of {found_size}; its files are those of the spec, so another version of nixply made the spec, or the spec is \
         wrong: build the image again: {}", layer + 1, some(paths)
    )]
    BlobDiffers {
        /// The layer's index in the image, from 0.
        layer: usize,
        /// The recorded digest.
        expected: Digest,
        /// The recorded size.
        expected_size: u64,
        /// Digest of the packed blob.
        found: Digest,
        /// Size of the packed blob.
        found_size: u64,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// The content of a blob's file does not match the digest in its name.
    #[error("blob has the digest {found}, expected {expected}: {}", wording::path(path))]
    BlobMismatch {
        /// The recorded digest.
        expected: Digest,
        /// Digest of the file's content.
        found: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A layer's file does not have the size that the spec records.
    #[error("layer file has {found} bytes, but the image spec records {expected}; build the image again: {}", path.display())]
    BlobSize {
        /// The recorded size.
        expected: u64,
        /// The file's size.
        found: u64,
        /// The file.
        path: PathBuf,
    },
    /// A spec names files that are not store paths.
    #[error("layer {} of the image spec refers to a path outside the store, so it is not read", layer + 1)]
    OutsideStore {
        /// The layer's index in the image, from 0.
        layer: usize,
        /// Error for the path.
        source: Box<Error>,
    },
    /// A spec names a blob's file that is not in the store.
    #[error("layer {} of the image spec is a file outside the store, so it is not read", layer + 1)]
    BlobOutsideStore {
        /// The layer's index in the image, from 0.
        layer: usize,
        /// Error for the path.
        source: Box<Error>,
    },
    /// The operating system starts no more threads.
    #[error(
        "cannot start a thread: the limit of processes (ulimit -u, or pids.max of a container) or of memory is reached; raise it"
    )]
    Threads {
        /// The operating system's error.
        source: io::Error,
    },
    /// The operating system allocates no more memory.
    #[error(
        "not enough memory to pack: the limit (ulimit -v, or a container's) is reached; raise it, or use fewer threads"
    )]
    Memory,
    /// The caller stopped the call.
    #[error("interrupted")]
    Interrupted,
}

/// Lists the first few paths, and the number of the others.
pub(crate) fn some(paths: &[String]) -> String {
    const MAX_PATHS: usize = 5;
    match paths.get(MAX_PATHS..) {
        Some(more @ [_, ..]) => format!("{} and {} more", paths[..MAX_PATHS].join(" "), more.len()),
        _ => paths.join(" "),
    }
}

impl From<PlanningError> for Error {
    fn from(error: PlanningError) -> Self {
        match error {
            PlanningError::Document(error) => Self::Document(error),
            PlanningError::File(error) => Self::File(error),
            PlanningError::Interrupted => Self::Interrupted,
            error => Self::Planning(error),
        }
    }
}

impl From<ParseStorePathError> for Error {
    fn from(error: ParseStorePathError) -> Self {
        Self::Planning(error.into())
    }
}

impl Error {
    /// Converts an error of the operating system, with a separate variant for a full disk.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        FileError::io(action, path, source).into()
    }

    /// Returns the error for a document's content.
    pub(crate) fn content(message: String) -> Self {
        DocumentError::Content(message).into()
    }

    /// Returns the error for a named file that cannot be read.
    pub(crate) fn unreadable(
        what: impl Into<String>,
        path: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        FileError::unreadable(what, path, source).into()
    }

    /// Returns the error for a document, argument or rule that is not valid.
    pub fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        DocumentError::invalid(what, why).into()
    }

    /// Adds the name of the document to the error.
    #[must_use]
    pub(crate) fn in_document(self, name: &str) -> Self {
        match self {
            Self::Document(error) => Self::Document(error.in_document(name)),
            other => other,
        }
    }

    /// Whether the operating system reported the error.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::File(FileError::Io { .. } | FileError::DiskFull { .. }))
    }

    /// Returns the error of a value at a place, such as an argument. The value's own description follows the place.
    pub fn at(place: impl fmt::Display, error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Document(error) => error.in_document(&place.to_string()).into(),
            Self::Planning(error) => PlanningError::at(place, error).into(),
            error => DocumentError::Content(format!("{place}: {error}")).into(),
        }
    }

    /// Returns the message with all its causes on one line: the form for callers in other languages.
    pub fn chain(&self) -> String {
        nixply_documents::chain(self)
    }

    /// Whether the error is that a packed layer differs from the recorded one.
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. } | Self::LayerChanged { .. } | Self::BlobDiffers { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_layers_from_1_and_list_few_paths() {
        let message = |count: usize| {
            let paths = (0..count).map(|at| format!("/nix/store/{at}")).collect();
            let (expected, found) = (DiffId::of(b"expected"), DiffId::of(b"found"));
            Error::DigestMismatch { layer: 0, expected, found, paths }.to_string()
        };
        assert!(message(1).starts_with("layer 1 no longer has the content"), "{}", message(1));
        assert!(message(1).ends_with("other content: /nix/store/0"), "{}", message(1));
        assert!(message(5).ends_with(" /nix/store/3 /nix/store/4"), "{}", message(5));
        assert!(message(5000).ends_with(" /nix/store/3 /nix/store/4 and 4995 more"), "{}", message(5000));
    }
}
