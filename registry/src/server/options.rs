//! Options of a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use nixply_packer::Cache;
use nixply_planning::Store;

use super::compression::Compression;
use super::failures::Report;
use super::observer::Observer;
use super::readers::Readers;

/// Options of a server.
#[derive(Clone)]
pub struct Options {
    /// Address to listen on. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// Whether `listen` may be an address that other machines can reach.
    pub allow_remote: bool,
    /// The programs that the server answers.
    pub readers: Readers,
    /// Host names that clients may use for a server on loopback, in addition to `localhost` and loopback
    /// addresses.
    pub hosts: Vec<String>,
    /// The end of the message to a client that uses another host name, for example how the user can add it to
    /// `hosts`. May be empty.
    pub other_host_advice: String,
    /// Compression of the layers.
    pub compression: Compression,
    /// The store that holds the layers' paths.
    pub store: Store,
    /// Cache of packed layers, which the server reads and fills.
    pub cache: Option<Cache>,
    /// Total number of packing threads. 0 means one per core.
    pub threads: usize,
    /// Whether the packer verifies store paths against the archive hashes in the cache while it reads them
    /// ([`with_store_check`](nixply_packer::Packer::with_store_check)).
    pub check_store: bool,
    /// Directory for packed layers. Its files have no names, so their space is free again when the server
    /// ends.
    pub scratch: PathBuf,
    /// Receives the error if a layer cannot be served.
    pub report: Report,
    /// Receives events about the layers that are packed and read.
    pub observer: Arc<dyn Observer>,
}

impl Options {
    /// Default options for images of `store`: a free port on loopback.
    pub fn new(store: Store) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_remote: false,
            readers: Readers::Everyone,
            hosts: Vec::new(),
            other_host_advice: String::new(),
            compression: Compression::Auto,
            store,
            cache: None,
            threads: 0,
            check_store: false,
            scratch: std::env::temp_dir(),
            report: Arc::new(|_| {}),
            observer: Arc::new(()),
        }
    }
}
