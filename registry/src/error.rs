//! Errors of the server and the client.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use nixply_documents::wording::quoted;

/// Result with the registry's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to serve or to push images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {address}; name another address, or port 0 for a free one")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The address is not loopback, and [`Options::allow_remote`](crate::server::Options::allow_remote) is
    /// off.
    #[error(
        "{0} can be reached from other machines, and every client that reaches it may read every image; listen on \
         a loopback address such as 127.0.0.1:0"
    )]
    Remote(SocketAddr),
    /// The image name contains a registry's host and port.
    #[error("image name {0:?} contains a registry's host and port; leave them out")]
    Host(String),
    /// Two images have the same name and tag.
    #[error("two images are called {name}:{tag}; give one of them another name or tag")]
    Twice {
        /// The repository's name.
        name: String,
        /// The tag.
        tag: String,
    },
    /// The directory for packed layers cannot be written.
    #[error("cannot write packed layers to the directory {}", directory.display())]
    Scratch {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of a layer was replaced after the server started.
    #[error("layer file was replaced after the server started; restart the server: {}", .0.display())]
    Replaced(PathBuf),
    /// This system does not identify the users of connections.
    #[error(
        "cannot identify the user of a loopback connection: this system has no /proc/net/tcp, as Linux does"
    )]
    UnknownPeers,
    /// The system provides no random numbers.
    #[error("cannot generate a secret")]
    Secret(#[source] io::Error),
    /// The system provides no threads.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
    /// The text does not name a tag in a registry.
    #[error("image reference {} is not valid: {why}, as in ghcr.io/team/app:1.0", quoted(reference))]
    Reference {
        /// The text.
        reference: String,
        /// The reason.
        why: String,
    },
    /// The client for a registry cannot be made, for example because a certificate is not valid.
    #[error("cannot start the client for {host}")]
    Client {
        /// The registry.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The registry did not answer.
    #[error("cannot {what}: no answer from {host}")]
    Request {
        /// The registry.
        host: String,
        /// The action.
        what: String,
        /// The cause. It contains no URL, which could contain a secret.
        source: reqwest::Error,
    },
    /// The registry has stopped to send and to receive.
    #[error("cannot {what}: {host} has not responded for {seconds} s")]
    Stalled {
        /// The registry.
        host: String,
        /// The action.
        what: String,
        /// The time.
        seconds: u64,
    },
    /// The registry has lost a part of a blob that was uploaded in chunks.
    #[error("cannot {what}: {host} has {kept} of {sent} bytes that were sent in chunks")]
    LostChunk {
        /// The registry.
        host: String,
        /// The action.
        what: String,
        /// Number of sent bytes.
        sent: u64,
        /// Number of bytes in the registry.
        kept: u64,
    },
    /// The repository has no such manifest.
    #[error("the registry has no image {reference}")]
    Absent {
        /// The reference.
        reference: String,
    },
    /// The index has no image for a platform.
    #[error("{reference} is an index without an image for {wanted}; it has {has}")]
    NoPlatform {
        /// The index.
        reference: String,
        /// The platform.
        wanted: String,
        /// The platforms of the index.
        has: String,
    },
    /// A file of a pulled image cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The registry's answer cannot be read, or is not the requested document.
    #[error("cannot {what}: the answer of {host} is not usable")]
    Answer {
        /// The registry.
        host: String,
        /// The action.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The registry of this machine expects TLS.
    #[error("{host} accepts only encrypted connections")]
    NeedsTls {
        /// The registry.
        host: String,
    },
    /// The registry answered with an error.
    #[error(
        "cannot {what}: {host} answered {status}{}{}",
        code.as_ref().map(|code| format!(", {code}")).unwrap_or_default(),
        message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
    )]
    Refused {
        /// The registry.
        host: String,
        /// The action.
        what: String,
        /// The status.
        status: String,
        /// The code of the error (distribution-spec, "Error codes").
        code: Option<String>,
        /// The registry's message.
        message: Option<String>,
    },
    /// The registry demands other credentials.
    #[error(
        "{host} refuses access to the repository {repository}: {}",
        if *anonymous { "it requires credentials, and there are none for it" } else { "it does not accept the credentials" }
    )]
    Unauthorized {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// Whether the requests had no credentials.
        anonymous: bool,
    },
    /// The registry's token service does not provide a token.
    #[error("cannot get a token for {host}: {why}")]
    Token {
        /// The registry.
        host: String,
        /// The reason.
        why: String,
    },
    /// The registry directs an upload or a download to a place that the client does not accept.
    #[error("{host} directs the client to {}, which is refused: {why}", quoted(location))]
    Location {
        /// The place.
        location: String,
        /// The registry.
        host: String,
        /// The reason.
        why: &'static str,
    },
    /// The credentials of a registry cannot be read.
    #[error("cannot read the credentials for {host}: {why}")]
    Credentials {
        /// The registry.
        host: String,
        /// The reason. It contains no secret.
        why: String,
    },
    /// The tag for an index of frames has something else.
    #[error("{reference} has an image, which an index of frames must not replace; name another tag")]
    NoFrames {
        /// The tag.
        reference: String,
    },
    /// The registry does not accept the manifest, although it has all blobs.
    #[error("cannot write {reference}: the registry reports missing blobs, although it has all of them")]
    LostBlobs {
        /// The tag.
        reference: String,
    },
    /// The certificates for a registry cannot be read.
    #[error("cannot read the certificates for {host}: {why}")]
    Certificates {
        /// The registry.
        host: String,
        /// The reason.
        why: String,
    },
    /// The store lacks paths of a layer, and they cannot be fetched.
    #[error("cannot fetch the store paths of layer {}: {why}", layer + 1)]
    Realise {
        /// The layer's index in the image, from 0.
        layer: usize,
        /// The reason.
        why: String,
    },
    /// A layer cannot be packed, or differs from its spec.
    #[error(transparent)]
    Packer(#[from] nixply_packer::Error),
}

impl Error {
    /// Returns whether the registry answered that it has no such manifest or blob.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Absent { .. } => true,
            Self::Refused { status, .. } => status.starts_with("404"),
            _ => false,
        }
    }

    /// Returns the message and all its causes on one line.
    pub fn chain(&self) -> String {
        nixply_documents::chain(self)
    }
}
