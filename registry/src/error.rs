//! What can go wrong while images are served.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The registry's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which serving fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}; name another address, or port 0 for a free one")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The system's own words.
        source: io::Error,
    },
    /// The address is not loopback, and nobody has said that it may be so.
    #[error(
        "{0} can be reached from other machines, and whoever reaches it may read every image; listen on a loopback \
         address such as 127.0.0.1:0, or allow it (--allow-remote)"
    )]
    Remote(SocketAddr),
    /// A name that no repository can have.
    #[error(
        "image name {0:?} has a registry's port in it; a served image is called after this registry alone: leave the host out"
    )]
    Host(String),
    /// Two images under one name.
    #[error("two images are called {name}:{tag}; give one of them another name or tag")]
    Twice {
        /// The repository's name.
        name: String,
        /// The tag.
        tag: String,
    },
    /// Packed layers have no place to be.
    #[error("cannot keep packed layers in the folder {}", folder.display())]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// A layer's own file is another one than when the server started.
    #[error("layer file is another one than when the server started; start the server again: {}", .0.display())]
    Replaced(PathBuf),
    /// This system does not tell users apart.
    #[error(
        "cannot tell which user a program on loopback belongs to: this system has no /proc/net/tcp; serve without --private, or \
         on Linux"
    )]
    UnknownPeers,
    /// The system gives no random numbers.
    #[error("cannot make a secret")]
    Secret(#[source] io::Error),
    /// The system gives no threads.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
    /// A layer cannot be packed, or is not what its spec says.
    #[error(transparent)]
    Packer(#[from] nixply_packer::Error),
}

impl Error {
    /// The message with all its causes on one line.
    pub fn chain(&self) -> String {
        nixply_packer::chain(self)
    }
}
