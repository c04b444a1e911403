//! Errors of the server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Result with the registry's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to serve images.
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
    /// A layer cannot be packed, or differs from its spec.
    #[error(transparent)]
    Packer(#[from] nixply_packer::Error),
}

impl Error {
    /// Returns the message and all its causes on one line.
    pub fn chain(&self) -> String {
        nixply_documents::chain(self)
    }
}
