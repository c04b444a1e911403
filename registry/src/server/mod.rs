//! A read-only registry that serves images straight from their specs: nothing is packed until somebody asks for a layer's
//! bytes, and then once, while the asker reads them.
//!
//! ```text
//! answer ──> catalog ──> workshop ──> growing <── body
//! protocol   what is     packs        a blob's     what a reader
//!            served                   bytes        has of it
//! ```

mod admission;
mod answer;
mod body;
mod catalog;
mod connections;
mod converted;
mod counters;
mod frames;
mod growing;
mod observer;
mod peer;
mod proof;
mod pump;
mod range;
mod reads;
#[cfg(test)]
mod tests;
mod workshop;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nixply_packer::cache::Cache;
use nixply_packer::closure::Store;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use self::admission::Admission;
use self::answer::Shared;
use self::connections::{Connection, Connections, PATIENCE, Watched};
use self::peer::Peer;
use self::workshop::Workshop;
use crate::error::{Error, Result};

pub use self::admission::{Readers, Secret};
pub use self::catalog::Image;
pub use self::counters::Counts;
pub use self::observer::{Observer, Read};
pub use self::peer::peers_are_known;
pub use self::reads::Compression;

/// How long packings may take to notice that they are to stop; they look several times a second.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What a connection has for a request's head, and about what it has of an answer beside a piece.
const HTTP_BUFFER: usize = 32 << 10;

/// What the kernel keeps of an answer on loopback, of which Linux makes twice as much.
const SEND_BUFFER: usize = 256 << 10;

/// Threads that read for those who ask, beside those that pack.
const MOST_READING_THREADS: usize = 32;

/// How often connections are looked at that wait for their peers.
const LOOK: Duration = Duration::from_secs(1);

/// How long a further connection is left alone where no file descriptors are left.
const PAUSE: Duration = Duration::from_millis(20);

/// The most connections whose users are looked up at once.
const MOST_LOOKUPS: usize = 64;

/// Hears of layers that cannot be served. Called from the server's threads.
pub type Report = Arc<dyn Fn(&Error) + Send + Sync>;

/// How to serve.
#[derive(Clone)]
pub struct Options {
    /// Where to listen. Port 0 is a free one.
    pub listen: SocketAddr,
    /// Whether that may be an address that other machines reach.
    pub allow_remote: bool,
    /// Whose programs are answered.
    pub readers: Readers,
    /// Names by which clients may call a server on loopback, beside `localhost` and loopback's addresses.
    pub hosts: Vec<String>,
    /// How layers are compressed.
    pub compression: Compression,
    /// Where the store paths are.
    pub store: Store,
    /// What earlier packings have made, and where this one's go.
    pub cache: Option<Cache>,
    /// Threads to pack with, all packings together; 0 is one for each core.
    pub threads: usize,
    /// Whether store paths whose archives' hashes the cache remembers are compared with them when they are read
    /// ([`with_store_check`](nixply_packer::pack::Packer::with_store_check)).
    pub check_store: bool,
    /// A folder for packed layers. They have no names in it, and their space is free again when the server ends.
    pub scratch: PathBuf,
    /// Hears why a layer could not be served.
    pub report: Report,
    /// Hears which layers are packed and read.
    pub observer: Arc<dyn Observer>,
}

impl Options {
    /// A free port of loopback, for what is in `store`.
    pub fn new(store: Store) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_remote: false,
            readers: Readers::Everyone,
            hosts: Vec::new(),
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

/// A registry that runs until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    workshop: Arc<Workshop>,
    stop: Arc<AtomicBool>,
    /// Dropped, it ends the loop that takes connections.
    ending: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to serve. When this returns, the address answers.
    pub fn start(images: Vec<Image>, options: Options) -> Result<Self> {
        let Options { listen, allow_remote, compression, .. } = options;
        let local = listen.ip().is_loopback();
        if !allow_remote && !local {
            return Err(Error::Remote(listen));
        }
        if matches!(options.readers, Readers::UserAndRoot) && !peers_are_known() {
            return Err(Error::UnknownPeers);
        }
        let admission =
            Admission { readers: options.readers.clone(), hosts: local.then(|| options.hosts.clone()) };
        let catalog = catalog::Catalog::new(images, &options.store, compression)?;
        // Better now than when a client waits.
        tempfile::tempfile_in(&options.scratch)
            .map_err(|source| Error::Scratch { folder: options.scratch.clone(), source })?;
        let stop = Arc::new(AtomicBool::new(false));
        let workshop = Arc::new(Workshop::new(options, stop.clone()));
        let failed = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        if local {
            // Connections have it from here. Bytes that a peer does not take wait in the kernel's memory.
            set_socket_send_buffer_size(&listener, SEND_BUFFER).map_err(|error| failed(error.into()))?;
        }
        let address = listener.local_addr().map_err(failed)?;
        // They move bytes; reading and packing is done elsewhere.
        let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        // And one that accepts connections, and one that reads: tokio panics where it cannot start a thread.
        try_threads(workers + 2).map_err(Error::Start)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(workshop.threads() + MOST_READING_THREADS)
            .thread_name("nixply-serve")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let (ending, ended) = oneshot::channel();
        let shared = Arc::new(Shared { catalog, workshop: workshop.clone(), admission });
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = ended => {}
                }
            });
            runtime.shutdown_timeout(STOP_PATIENCE);
        };
        let thread =
            std::thread::Builder::new().name("nixply-serve".into()).spawn(serve).map_err(Error::Start)?;
        Ok(Self { address, workshop, stop, ending: Some(ending), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.workshop.counters.counts()
    }

    /// Ends it: connections are cut, packings given up, packed layers forgotten. Gives what it has done.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.ending.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed; there is nothing more to end.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts as many threads at once, and ends them. Fails where the machine has no room for them.
fn try_threads(count: usize) -> std::io::Result<()> {
    let (ended, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(std::sync::Mutex::new(ends));
    let start = |_| {
        let ends = ends.clone();
        // Waits until nobody can send any more.
        std::thread::Builder::new().spawn(move || drop(ends.lock().map(|ends| ends.recv())))
    };
    let started: std::io::Result<Vec<_>> = (0..count).map(start).collect();
    drop(ended);
    // Their number counts until they have ended.
    started?.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
    let connections = Arc::new(Connections::new());
    let lookups = Arc::new(Semaphore::new(MOST_LOOKUPS));
    let mut look = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = look.tick() => {
                connections.cut_stalled();
                continue;
            }
        };
        let Ok((stream, peer)) = accepted else {
            // No file descriptors left, perhaps.
            connections.cut_longest();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        if !shared.admission.asks_for_peers() {
            let connection = connections.room().await;
            tokio::spawn(serve(stream, shared, connection, true));
            continue;
        }
        // The wait is for the kernel's table of connections, never for what strangers do.
        let looks_up = lookups.clone().acquire_owned().await;
        let connections = connections.clone();
        tokio::spawn(async move {
            let Ok(local) = stream.local_addr() else { return };
            let peer = tokio::task::spawn_blocking(move || Peer::of(peer, local)).await;
            drop(looks_up);
            let peer = peer.unwrap_or(Peer::Other);
            if shared.admission.makes_room(peer) {
                let trusted = shared.admission.trusts(peer);
                let connection = connections.room().await;
                serve(stream, shared, connection, trusted).await;
            } else if let Some(connection) = connections.strangers_room() {
                serve(stream, shared, connection, false).await;
            }
        });
    }
}

/// Answers a connection's requests until it ends or is cut.
async fn serve(stream: TcpStream, shared: Arc<Shared>, connection: Connection, trusted: bool) {
    // Answers of a few bytes are not held back.
    let _ = stream.set_nodelay(true);
    let pulse = &connection.pulse;
    let service = service_fn(|request| shared.clone().answer(request, trusted, pulse.clone()));
    let stream = TokioIo::new(Watched { stream, pulse: pulse.clone() });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HTTP_BUFFER);
    tokio::select! {
        // Clients that go away, and blobs that are not given to their end, have been dealt with.
        _ = http.serve_connection(stream, service) => {}
        () = connection.cut() => {}
    }
}
