//! Options of a server.

use std::net::{Ipv4Addr, SocketAddr};

use nixply_planning::Store;

use super::readers::Readers;
use crate::content::Settings;

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
    /// Settings of the served content.
    pub content: Settings,
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
            content: Settings::new(store),
        }
    }
}
