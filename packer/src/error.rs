//! What can go wrong while an image is planned, packed or written.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::digest::{DiffId, Digest};
use crate::layer::PackedLayer;
use crate::store_path::{ParseStorePathError, StorePath};
use crate::wording;

/// The packer's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which the packer refuses. Messages name the thing, the place and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action}: {}", wording::path(path))]
    Io {
        /// What was tried, as in "cannot read file".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that the user or a document names cannot be read: it is for them to name another one.
    #[error("cannot read {what}: {}", wording::path(path))]
    Unreadable {
        /// The argument or key that names it, as in "fromImage".
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk (or quota) is full.
    #[error(
        "no space left on the device, nothing was kept of what was being written: {}",
        wording::path(path)
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// A store path of the closure is not there (any more).
    #[error(
        "store path is missing; it was deleted, perhaps by a garbage collection, or never realised; \
         bring it back (nix-store --realise, or --repair-path where Nix still lists it) and keep it alive while it is packed: {}",
        wording::path(path)
    )]
    Missing {
        /// The store path.
        path: PathBuf,
    },
    /// Something below a store path went away or changed while it was read.
    #[error(
        "store path changed while it was packed ({what}); store paths are immutable, so it was deleted or damaged: \
         run nix-store --verify-path on it and build again: {}",
        wording::path(path)
    )]
    Changed {
        /// What was noticed.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// A store path has another content than Nix knows.
    #[error(
        "store path is damaged: the hash of its archive is {found}, but Nix knows it by {expected}; nothing of it was kept: \
         repair it (nix-store --repair-path {path}) and build again: {path}"
    )]
    Damaged {
        /// The store path.
        path: StorePath,
        /// What the closure says.
        expected: String,
        /// The hash of what is there.
        found: String,
    },
    /// A file of the store has a mode that Nix does not leave.
    #[error(
        "mode {mode:04o} is not one that Nix leaves in the store, which is {wanted} here; nothing of the store path was \
         kept: give it its mode back (chmod), or repair the store path (nix-store --repair-path), and build again: {}",
        path.display()
    )]
    StoreMode {
        /// Its permission bits with setuid, setgid and sticky.
        mode: u32,
        /// The modes that it may have.
        wanted: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A socket, device or FIFO.
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
    /// A document, argument or rule that is not what it must be, where no caller tells the reasons apart.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// Which document, argument or rule.
        what: String,
        /// What is wrong with it and, where known, what to do.
        why: String,
    },
    /// A text that is not the name of a store path.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// A lock file that cannot be read.
    #[error("{error}")]
    LockFile {
        /// The reason. It names the file.
        error: Box<Error>,
    },
    /// A lock file without the image that is planned by it.
    #[error("lock file is not valid: it has no image {}, only {images}", wording::quoted(image))]
    NotInLock {
        /// The image's name.
        image: String,
        /// The names that the file has, for messages.
        images: String,
    },
    /// An update of a lock file without some of its images.
    #[error("lock file is not valid: it also has {}, which would be lost: plan all its images together", .images.join(", "))]
    ImagesMissing {
        /// The images' names.
        images: Vec<String>,
    },
    /// An OCI document where an image's spec is expected.
    #[error("{document} is not valid: it is a manifest or index of OCI, not an image's spec")]
    NotSpec {
        /// The document's name.
        document: String,
    },
    /// The manifest of an image for another platform than the wanted one.
    #[error("{} is not valid: it is the manifest of an image for {found}, not for {wanted}", manifest.display())]
    OtherPlatform {
        /// The manifest's file.
        manifest: PathBuf,
        /// Its platform.
        found: String,
        /// The wanted platform.
        wanted: String,
    },
    /// An index of which several images, or none, could be meant.
    #[error(
        "{} is not valid: it is an index of several platforms, not the manifest of one image; it has {has}", index.display()
    )]
    SeveralPlatforms {
        /// The index's file.
        index: PathBuf,
        /// Its images, for messages.
        has: String,
        /// One of its platforms; none if it names no platforms.
        example: Option<String>,
    },
    /// One of several images has the error.
    #[error("image {image}")]
    OfImage {
        /// Its key.
        image: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// The same place in the image is claimed twice. The words are nix2container's where it refuses too.
    #[error("{0}; remove one of the two, or give one of them its own place")]
    Conflict(String),
    /// A reference cycle: not a closure that Nix can make.
    #[error("the closure has a reference cycle through {0}")]
    Cycle(String),
    /// A root or reference that the closure does not list.
    #[error("{path} is not in the closure{}", hint(*.referrer_is_root, referrer))]
    NotInClosure {
        /// The path that is missing.
        path: String,
        /// Who names it.
        referrer: String,
        /// Whether the request itself names it.
        referrer_is_root: bool,
    },
    /// A file name that unpackers take for a deletion.
    #[error(
        "a name that begins with .wh. is a whiteout in an OCI layer: unpacked, the file would vanish and could delete \
         others; rename the file, or leave its store path out: {}",
        wording::path(path)
    )]
    Whiteout {
        /// The file.
        path: PathBuf,
    },
    /// More layers than the request allows for a strategy that merges none.
    #[error(
        "strategy {strategy} makes {layers} layers, but maxLayers is {limit}: raise maxLayers, or merge groups"
    )]
    MaxLayers {
        /// Its name.
        strategy: &'static str,
        /// How many there would be.
        layers: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More layers than runtimes take.
    #[error(
        "the image would have {layers} layers, but container runtimes take at most {limit}: lower maxLayers (or merge \
         layers), or raise layerLimit if your runtime takes more"
    )]
    TooManyLayers {
        /// How many there would be.
        layers: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Packing gave other bytes than the spec says.
    #[error(
        "layer {} no longer has the content that its image spec records: expected {expected}, found {found}; \
         one of these store paths differs from when the spec was made (nix-store --verify-path tells which), or the \
         spec was made on another machine from other content: {}", layer + 1, some(paths)
    )]
    DigestMismatch {
        /// The layer's place in the image, from 0.
        layer: usize,
        /// The recorded digest.
        expected: DiffId,
        /// What the bytes give.
        found: DiffId,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// Packing gave other bytes than the first time.
    #[error(
        "a layer no longer has the content that it was packed with before: expected {expected}, found {found}; one of these \
         store paths differs from what Nix knows of it (nix-store --verify-path tells which), or the spec that the cache \
         imported it from was wrong and is forgotten now: {}",
        some(paths)
    )]
    LayerChanged {
        /// What was remembered.
        expected: Box<PackedLayer>,
        /// What the bytes give.
        found: Box<PackedLayer>,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// Packing gave another blob of the same content than the spec says.
    #[error(
        "layer {} has another blob than its image spec records: expected {expected} of {expected_size} bytes, found {found} \
         of {found_size}; the files in it are those of the spec, so another version of nixply made the spec, or it is wrong: \
         build the image again: {}", layer + 1, some(paths)
    )]
    BlobDiffers {
        /// The layer's place in the image, from 0.
        layer: usize,
        /// The recorded digest.
        expected: Digest,
        /// The recorded size.
        expected_size: u64,
        /// The digest of what was packed.
        found: Digest,
        /// Its size.
        found_size: u64,
        /// The layer's store paths.
        paths: Vec<String>,
    },
    /// A blob in a file has other bytes than its name says.
    #[error("blob does not have its digest {expected} (found {found}): {}", wording::path(path))]
    BlobMismatch {
        /// The recorded digest.
        expected: Digest,
        /// What the bytes give.
        found: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A layer's own file has another size than its spec says.
    #[error("layer file has {found} bytes, but the image spec records {expected}; build the image again: {}", path.display())]
    BlobSize {
        /// The recorded size.
        expected: u64,
        /// The file's.
        found: u64,
        /// The file.
        path: PathBuf,
    },
    /// A store directory that other users can change.
    #[error(
        "store directory {} is not safe to read: {why}; only this user and root may have write access to a store: change its \
         owner or mode", path.display()
    )]
    StoreOfOthers {
        /// The directory.
        path: PathBuf,
        /// How others can change it.
        why: String,
    },
    /// A spec names files that are no store paths.
    #[error("layer {} of the image spec refers to a path outside the store, so it is not read", layer + 1)]
    OutsideStore {
        /// The layer's place in the image, from 0.
        layer: usize,
        /// What is wrong with the path.
        source: Box<Error>,
    },
    /// A spec names a blob's file that is not in the store.
    #[error("layer {} of the image spec is a file outside the store, so it is not read", layer + 1)]
    BlobOutsideStore {
        /// The layer's place in the image, from 0.
        layer: usize,
        /// What is wrong with the path.
        source: Box<Error>,
    },
    /// The system gives no thread.
    #[error(
        "cannot start a thread: the limit of processes (ulimit -u, or pids.max of a container) or of memory is reached; raise it"
    )]
    Threads {
        /// The system's own words.
        source: io::Error,
    },
    /// The system gives no memory.
    #[error(
        "cannot get memory to pack with: the limit (ulimit -v, or a container's) is reached; raise it, or use fewer threads"
    )]
    Memory,
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A JSON document that cannot be read, or a value in it that is not what it must be: see [`document`](crate::document).
    #[error("{0}")]
    Document(String),
}

/// The first few paths of a list, and how many more there are.
pub(crate) fn some(paths: &[String]) -> String {
    const MOST: usize = 5;
    match paths.get(MOST..) {
        Some(more @ [_, ..]) => format!("{} and {} more", paths[..MOST].join(" "), more.len()),
        _ => paths.join(" "),
    }
}

fn hint(referrer_is_root: bool, referrer: &str) -> String {
    if referrer_is_root {
        format!(", although {referrer} names it; only store paths that Nix knows can be packed")
    } else {
        format!(", although {referrer} refers to it; give the whole closure")
    }
}

impl Error {
    /// An operating system's error, with a full disk told apart.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_path_buf(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// A named file that cannot be read.
    pub(crate) fn unreadable(
        what: impl Into<String>,
        path: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Unreadable { what: what.into(), path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// A value that is not what it must be.
    pub(crate) fn must(place: impl fmt::Display, must: &str, found: impl fmt::Display) -> Self {
        Self::Document(format!("{place} must be {must}, not {found}"))
    }

    /// The same error with the name of the document that it is about.
    #[must_use]
    pub(crate) fn in_document(self, name: &str) -> Self {
        match self {
            Self::Document(text) => Self::Document(format!("{name}: {text}")),
            Self::Invalid { what, why } => Self::Invalid { what: format!("{name}: {what}"), why },
            other => other,
        }
    }

    /// A document, argument or rule that is not what it should be.
    pub fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string() }
    }

    /// What is wrong, without the name of the thing, for callers that name it themselves.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Invalid { why, .. } => why,
            error => error.to_string(),
        }
    }

    /// Whether a layer is not what somebody has said that it is.
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. } | Self::LayerChanged { .. } | Self::BlobDiffers { .. })
    }

    /// The message with all its causes on one line, as it crosses a language border.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error's message with all its causes on one line, as [`wording::line`] shows them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = wording::line(&error.to_string()).into_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&wording::line(&error.to_string()));
        cause = error.source();
    }
    text
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
