//! Limits the number of connections and closes those that stall.
//!
//! A connection *waits* for its peer in two cases: from its start or its last answer until its next request
//! is complete, and while the peer does not read the answer, or reads almost nothing. While the server packs,
//! the connection does not wait.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Maximum number of connections. It is lower if the system allows fewer open files.
pub(super) const MOST: usize = 768;

/// Maximum number of connections of programs that have not yet shown that they may read. They never displace
/// trusted connections.
const MAX_UNTRUSTED: usize = 64;

/// Maximum time that a connection may wait for its peer.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Minimum time that a connection must have waited before the server closes it to make room for another.
const MIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Interval between attempts to add a connection when there is no room.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of bytes that a peer must read before its connection stops waiting.
const PROGRESS: u64 = 16 << 10;

const NEVER: u64 = u64::MAX;

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    begin: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    states: BTreeMap<u64, Arc<ConnectionState>>,
}

/// State of one connection.
#[derive(Debug)]
pub(super) struct ConnectionState {
    begin: Instant,
    /// Start of the wait, in milliseconds after `begin`, or [`NEVER`].
    waits: AtomicU64,
    /// Number of bytes that the peer has read since the wait began.
    taken: AtomicU64,
    /// Whether a request is being answered.
    answering: AtomicBool,
    /// Whether the peer may read every image.
    trusted: AtomicBool,
    cut: Notify,
}

impl Connections {
    /// Limits the connections to three quarters of the allowed open files, which leaves some for blobs.
    pub(super) fn new() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let most = MOST.min(files / 4 * 3).max(2);
        Self { most, begin: Instant::now(), open: Mutex::default() }
    }

    /// Adds a connection of a trusted program. If there is no room, waits until there is; later connections
    /// wait too.
    pub(super) async fn room(self: &Arc<Self>) -> Connection {
        loop {
            match self.add(true) {
                Some(connection) => return connection,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Adds a connection of an untrusted program. None if there is no room.
    pub(super) fn room_for_untrusted(self: &Arc<Self>) -> Option<Connection> {
        self.add(false)
    }

    /// Adds a connection if there is room, or if a connection that waits can be closed.
    fn add(self: &Arc<Self>, trusted: bool) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if trusted { self.most } else { MAX_UNTRUSTED.min(self.most) };
        let alike = |state: &Arc<ConnectionState>| state.trusted.load(Ordering::Relaxed) == trusted;
        if open.states.values().filter(|state| alike(state)).count() >= most {
            let waits = |state: &Arc<ConnectionState>| state.waits.load(Ordering::Relaxed);
            let longest =
                open.states.iter().filter(|(_, state)| alike(state)).min_by_key(|(_, state)| waits(state));
            let (key, state) = longest?;
            if state.waited() < MIN_TIMEOUT {
                return None;
            }
            let key = *key;
            state.cut.notify_one();
            open.states.remove(&key);
        }
        let state = Arc::new(ConnectionState {
            begin: self.begin,
            waits: AtomicU64::new(NEVER),
            taken: AtomicU64::default(),
            answering: AtomicBool::default(),
            trusted: AtomicBool::new(trusted),
            cut: Notify::new(),
        });
        state.wait();
        let key = open.next;
        open.next += 1;
        open.states.insert(key, state.clone());
        Some(Connection { key, state, all: self.clone() })
    }

    /// Closes connections that have waited too long.
    pub(super) fn cut_stalled(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = open.states.values().filter(|state| state.waited() >= STALL_TIMEOUT);
        stalled.for_each(|state| state.cut.notify_one());
    }

    /// Closes the connection that has waited longest, because no open files are left.
    pub(super) fn cut_longest(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = open.states.values().max_by_key(|state| state.waited());
        longest
            .into_iter()
            .filter(|state| state.waited() >= MIN_TIMEOUT)
            .for_each(|state| state.cut.notify_one());
    }
}

/// An entry among the open connections.
pub(super) struct Connection {
    key: u64,
    pub(super) state: Arc<ConnectionState>,
    all: Arc<Connections>,
}

impl Connection {
    /// Waits until the connection must be closed.
    pub(super) async fn cut(&self) {
        self.state.cut.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).states.remove(&self.key);
    }
}

impl ConnectionState {
    fn wait(&self) {
        self.taken.store(0, Ordering::Relaxed);
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.waits.store(now, Ordering::Relaxed);
    }

    fn waited(&self) -> Duration {
        match self.waits.load(Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            since => self.begin.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }

    /// Marks a request as being answered until the returned guard is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> AnswerGuard {
        self.answering.store(true, Ordering::Relaxed);
        self.waits.store(NEVER, Ordering::Relaxed);
        AnswerGuard(self.clone())
    }

    /// Records that the peer may read every image.
    pub(super) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Records whether the peer reads the written bytes.
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if !self.answering.load(Ordering::Relaxed) {
            return;
        }
        let waits = self.waits.load(Ordering::Relaxed) != NEVER;
        match written {
            Poll::Pending if !waits => self.wait(),
            Poll::Ready(Ok(bytes)) if waits => {
                let taken = self.taken.fetch_add(*bytes as u64, Ordering::Relaxed) + *bytes as u64;
                if taken >= PROGRESS {
                    self.waits.store(NEVER, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

/// Marks a request as being answered.
#[derive(Debug)]
pub(super) struct AnswerGuard(Arc<ConnectionState>);

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Relaxed);
        self.0.wait();
    }
}

/// A socket that records whether its peer reads.
pub(super) struct WatchedStream {
    pub(super) stream: TcpStream,
    pub(super) state: Arc<ConnectionState>,
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.state.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.state.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
