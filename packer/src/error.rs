//! Errors of planning, packing and writing an image.

use std::io;
use std::path::{Path, PathBuf};

use nixply_documents::{Error as DocumentError, wording};
use nixply_files::Error as FileError;
use nixply_oci::{DiffId, Digest};
use nixply_planning::StorePath;

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
    Planning(nixply_planning::Error),
    /// A store path of the closure does not exist (any more).
    #[error(
        "store path is missing; it was deleted, perhaps by a garbage collection, or never realised; \
         bring it back (nix-store --realise, or --repair-path where Nix still lists it) and keep it alive while it is packed: {}",
        wording::path(path)
    )]
    Missing {
        /// The store path.
        path: PathBuf,
    },
    /// A file or directory of a store path was deleted or changed while it was read.
    #[error(
        "store path changed while it was packed ({what}); store paths are immutable, so it was deleted or damaged: \
         run nix-store --verify-path on it and build again: {}",
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
        "store path is damaged: the hash of its archive is {found}, but Nix knows it by {expected}; nothing of it was kept: \
         repair it (nix-store --repair-path {path}) and build again: {path}"
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
        "mode {mode:04o} is not one that Nix leaves in the store, which is {wanted} here; nothing of the store path was \
         kept: give it its mode back (chmod), or repair the store path (nix-store --repair-path), and build again: {}",
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
    #[error("lock file is not valid: it also has {}, which would be lost: plan all its images together", .images.join(", "))]
    ImagesMissing {
        /// Names of the missing images.
        images: Vec<String>,
    },
    /// A document is an OCI manifest or index where an image's spec is expected.
    #[error("{document} is not valid: it is a manifest or index of OCI, not an image's spec")]
    NotSpec {
        /// The document's name.
        document: String,
    },
    /// A manifest is for another platform than the requested one.
    #[error("{} is not valid: it is the manifest of an image for {found}, not for {wanted}", manifest.display())]
    OtherPlatform {
        /// The manifest's file.
        manifest: PathBuf,
        /// The manifest's platform.
        found: String,
        /// The requested platform.
        wanted: String,
    },
    /// An index does not identify a single image: it has several that match, or none.
    #[error(
        "{} is not valid: it is an index of several platforms, not the manifest of one image; it has {has}", index.display()
    )]
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
        "the image would have {layers} layers, but container runtimes take at most {limit}: lower maxLayers (or merge \
         layers), or raise layerLimit if your runtime takes more"
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
         one of these store paths differs from when the spec was made (nix-store --verify-path tells which), or the \
         spec was made on another machine from other content: {}", layer + 1, some(paths)
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
        "a layer no longer has the content that it was packed with before: expected {expected}, found {found}; one of these \
         store paths differs from what Nix knows of it (nix-store --verify-path tells which), or the spec that the cache \
         imported it from was wrong and is forgotten now: {}",
        some(paths)
    )]
    LayerChanged {
        /// The layer in the cache.
        expected: Box<PackedLayer>,
        /// The packed layer.
        found: Box<PackedLayer>,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// Packing produced a blob that differs from the one in the spec, although the content is the same.
    #[error(
        "layer {} has another blob than its image spec records: expected {expected} of {expected_size} bytes, found {found} \
         of {found_size}; the files in it are those of the spec, so another version of nixply made the spec, or it is wrong: \
         build the image again: {}", layer + 1, some(paths)
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
    #[error("blob does not have its digest {expected} (found {found}): {}", wording::path(path))]
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
        "cannot get memory to pack with: the limit (ulimit -v, or a container's) is reached; raise it, or use fewer threads"
    )]
    Memory,
    /// The caller stopped the call.
    #[error("interrupted")]
    Interrupted,
}

/// Lists the first few paths, and the number of the others.
pub(crate) fn some(paths: &[String]) -> String {
    const MOST: usize = 5;
    match paths.get(MOST..) {
        Some(more @ [_, ..]) => format!("{} and {} more", paths[..MOST].join(" "), more.len()),
        _ => paths.join(" "),
    }
}

impl From<nixply_planning::Error> for Error {
    fn from(error: nixply_planning::Error) -> Self {
        match error {
            nixply_planning::Error::Document(error) => Self::Document(error),
            nixply_planning::Error::File(error) => Self::File(error),
            nixply_planning::Error::Interrupted => Self::Interrupted,
            error => Self::Planning(error),
        }
    }
}

impl From<nixply_planning::ParseStorePathError> for Error {
    fn from(error: nixply_planning::ParseStorePathError) -> Self {
        Self::Planning(error.into())
    }
}

impl Error {
    /// Converts an error of the operating system, with a separate variant for a full disk.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        FileError::io(action, path, source).into()
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
