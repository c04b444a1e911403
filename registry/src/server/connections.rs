//! How many connections there are, and which of them wait for their peers: a reader that stalls is cut.
//!
//! A connection *waits* from when it is there, or has had its answer, until its next request is whole; and while its answer
//! cannot be sent because the peer takes nothing, or next to nothing. While this server packs, the peer waits, not the
//! connection.

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

/// The most connections at once. Where the process may have fewer open files, it has fewer connections.
pub(super) const MOST: usize = 768;

/// The most connections of programs that have not shown yet that they may read anything. They never take another's place.
const MOST_STRANGERS: usize = 64;

/// How long a connection may wait for its peer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection has waited at least when it is cut to make room for another.
const LITTLE_PATIENCE: Duration = Duration::from_millis(250);

/// How long a connection for which there is no room waits until it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes that a peer has to take before a connection counts as one that does not wait.
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
    pulses: BTreeMap<u64, Arc<Pulse>>,
}

/// What one connection does.
#[derive(Debug)]
pub(super) struct Pulse {
    begin: Instant,
    /// Since when it waits for its peer, in milliseconds from `begin`.
    waits: AtomicU64,
    /// What the peer has taken since.
    taken: AtomicU64,
    /// A request is being answered.
    answering: AtomicBool,
    /// The peer may read what there is.
    trusted: AtomicBool,
    cut: Notify,
}

impl Connections {
    /// At most so many as open files allow, with room for what is read and written.
    pub(super) fn new() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let most = MOST.min(files / 4 * 3).max(2);
        Self { most, begin: Instant::now(), open: Mutex::default() }
    }

    /// Adds a connection of a program that may read. Where there is no room for it and none can be made, this and all further ones wait.
    pub(super) async fn room(self: &Arc<Self>) -> Connection {
        loop {
            match self.add(true) {
                Some(connection) => return connection,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Adds a stranger's connection. Where there is no room for it, it is not answered.
    pub(super) fn strangers_room(self: &Arc<Self>) -> Option<Connection> {
        self.add(false)
    }

    /// Adds a connection, if there is room for it or can be made.
    fn add(self: &Arc<Self>, trusted: bool) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if trusted { self.most } else { MOST_STRANGERS.min(self.most) };
        let alike = |pulse: &Arc<Pulse>| pulse.trusted.load(Ordering::Relaxed) == trusted;
        if open.pulses.values().filter(|pulse| alike(pulse)).count() >= most {
            let waits = |pulse: &Arc<Pulse>| pulse.waits.load(Ordering::Relaxed);
            let longest =
                open.pulses.iter().filter(|(_, pulse)| alike(pulse)).min_by_key(|(_, pulse)| waits(pulse));
            let (key, pulse) = longest?;
            if pulse.waited() < LITTLE_PATIENCE {
                return None;
            }
            let key = *key;
            pulse.cut.notify_one();
            open.pulses.remove(&key);
        }
        let pulse = Arc::new(Pulse {
            begin: self.begin,
            waits: AtomicU64::new(NEVER),
            taken: AtomicU64::default(),
            answering: AtomicBool::default(),
            trusted: AtomicBool::new(trusted),
            cut: Notify::new(),
        });
        pulse.wait();
        let key = open.next;
        open.next += 1;
        open.pulses.insert(key, pulse.clone());
        Some(Connection { key, pulse, all: self.clone() })
    }

    /// Cuts those that have waited too long.
    pub(super) fn cut_stalled(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = open.pulses.values().filter(|pulse| pulse.waited() >= PATIENCE);
        stalled.for_each(|pulse| pulse.cut.notify_one());
    }

    /// Cuts the connection that has waited longest, because there are no open files left.
    pub(super) fn cut_longest(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = open.pulses.values().max_by_key(|pulse| pulse.waited());
        longest
            .into_iter()
            .filter(|pulse| pulse.waited() >= LITTLE_PATIENCE)
            .for_each(|pulse| pulse.cut.notify_one());
    }
}

/// A connection's place among the others.
pub(super) struct Connection {
    key: u64,
    pub(super) pulse: Arc<Pulse>,
    all: Arc<Connections>,
}

impl Connection {
    /// Waits until the connection is to be cut.
    pub(super) async fn cut(&self) {
        self.pulse.cut.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).pulses.remove(&self.key);
    }
}

impl Pulse {
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

    /// A request is whole. Gives what ends when its answer has been handed over.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        self.answering.store(true, Ordering::Relaxed);
        self.waits.store(NEVER, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// The peer has shown that it may read.
    pub(super) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Notes whether the peer takes what is written.
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

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Pulse>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Relaxed);
        self.0.wait();
    }
}

/// A socket whose writes are noted.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) pulse: Arc<Pulse>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pulse.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.pulse.wrote(&written);
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
