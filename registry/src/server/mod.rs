//! A read-only registry that serves images from their specs, by the OCI distribution protocol.
//!
//! `answer` parses a request, looks it up in the [`content`](crate::content), and answers with a `body`.

mod admission;
mod answer;
mod connections;
mod options;
mod peer;
mod range;
mod readers;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use self::admission::Admission;
use self::answer::Shared;
use self::connections::{Connection, Connections, STALL_TIMEOUT, WatchedStream};
pub use self::options::Options;
use self::peer::Peer;
pub use self::peer::peers_are_known;
pub use self::readers::{Readers, Secret};
use crate::content::catalog::Catalog;
use crate::content::pack_queue::PackQueue;
use crate::content::{Counts, Image};
use crate::error::{Error, Result};

/// Maximum time to wait for running packings to stop. They check several times a second.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Buffer of a connection: for a request's head, and roughly for the part of an answer that exceeds a piece.
const HTTP_BUFFER: usize = 32 << 10;

/// The kernel's send buffer for an answer on loopback. Linux doubles this number.
const SEND_BUFFER: usize = 256 << 10;

/// Maximum number of reading threads, in addition to the packing threads.
const MAX_READING_THREADS: usize = 32;

/// Interval between checks for stalled connections.
const LOOK: Duration = Duration::from_secs(1);

/// Time to wait before accepting again when no file descriptors are left.
const PAUSE: Duration = Duration::from_millis(20);

/// Maximum number of concurrent look-ups of a connection's user.
const MAX_LOOKUPS: usize = 64;

/// A registry that runs until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    queue: Arc<PackQueue>,
    stop: Arc<AtomicBool>,
    /// Dropping it ends the accept loop.
    ending: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve. The address answers once this returns.
    pub fn start(images: Vec<Image>, options: Options) -> Result<Self> {
        let Options { listen, allow_remote, .. } = options;
        let local = listen.ip().is_loopback();
        if !allow_remote && !local {
            return Err(Error::Remote(listen));
        }
        if matches!(options.readers, Readers::UserAndRoot) && !peers_are_known() {
            return Err(Error::UnknownPeers);
        }
        let admission = Admission {
            readers: options.readers.clone(),
            hosts: local.then(|| options.hosts.clone()),
            other_host_advice: options.other_host_advice.clone(),
        };
        let catalog = Catalog::new(images, &options.content)?;
        // Fail now rather than when a client waits for a layer.
        options.content.check_scratch()?;
        let stop = Arc::new(AtomicBool::new(false));
        let queue = Arc::new(PackQueue::new(options.content, stop.clone()));
        let failed = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        if local {
            // Connections inherit the size. The kernel's memory holds bytes that a peer has not read.
            set_socket_send_buffer_size(&listener, SEND_BUFFER).map_err(|error| failed(error.into()))?;
        }
        let address = listener.local_addr().map_err(failed)?;
        // These threads only move bytes. Other threads read and pack.
        let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        // Plus one thread that accepts connections and one that reads: tokio panics if it cannot start a
        // thread.
        try_threads(workers + 2).map_err(Error::Start)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(queue.threads() + MAX_READING_THREADS)
            .thread_name("nixply-serve")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let (ending, ended) = oneshot::channel();
        let shared = Arc::new(Shared { catalog, queue: queue.clone(), admission });
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = ended => {}
                }
            });
            runtime.shutdown_timeout(STOP_TIMEOUT);
        };
        let thread =
            std::thread::Builder::new().name("nixply-serve".into()).spawn(serve).map_err(Error::Start)?;
        Ok(Self { address, queue, stop, ending: Some(ending), thread: Some(thread) })
    }

    /// Address of the listening socket.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Statistics so far.
    pub fn counts(&self) -> Counts {
        self.queue.counters.counts()
    }

    /// Stops the server: closes connections, aborts packing and drops packed layers. Returns the statistics.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.ending.take());
        if let Some(thread) = self.thread.take() {
            // The panic hook has printed any panic of the thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Checks that the system allows `count` more threads: starts that many at once and ends them.
fn try_threads(count: usize) -> std::io::Result<()> {
    let (ended, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(std::sync::Mutex::new(ends));
    let start = |_| {
        let ends = ends.clone();
        // Blocks until the sender is dropped.
        std::thread::Builder::new().spawn(move || drop(ends.lock().map(|ends| ends.recv())))
    };
    let started: std::io::Result<Vec<_>> = (0..count).map(start).collect();
    drop(ended);
    // The system counts a thread until it has ended.
    started?.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// Accepts connections until the server stops.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
    let connections = Arc::new(Connections::new());
    let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
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
            // Probably no file descriptors are left.
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
        // The permit bounds reads of the kernel's connection table. Clients cannot delay them.
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
            } else if let Some(connection) = connections.room_for_untrusted() {
                serve(stream, shared, connection, false).await;
            }
        });
    }
}

/// Answers the requests of a connection until it ends or is closed.
async fn serve(stream: TcpStream, shared: Arc<Shared>, connection: Connection, trusted: bool) {
    // Send small answers at once.
    let _ = stream.set_nodelay(true);
    let state = &connection.state;
    let service = service_fn(|request| shared.clone().answer(request, trusted, state.clone()));
    let stream = TokioIo::new(WatchedStream { stream, state: state.clone() });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(STALL_TIMEOUT).max_buf_size(HTTP_BUFFER);
    tokio::select! {
        // Errors here are clients that went away and blobs that failed. Other code has handled both.
        _ = http.serve_connection(stream, service) => {}
        () = connection.cut() => {}
    }
}
