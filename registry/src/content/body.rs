//! The body of a request or a response. Threads that may block read a blob in pieces, at most one piece before the socket
//! needs it. That bounds the memory for each connection.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use nixply_oci::Digest;
use tokio::sync::mpsc;

use super::blob_source::{Check, Source, Transfer};
use super::observer::Observed;
use super::pack_queue::PackQueue;

/// Number of bytes of a body that the connection has accepted.
#[derive(Debug, Default)]
pub(crate) struct SentBytes(AtomicU64);

impl SentBytes {
    /// Returns the number.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of a part of a blob, as the body of a request or a response. Its length is known.
pub(crate) struct Body {
    bytes: Remaining,
    left: u64,
    /// Counts the sent bytes for this blob.
    counted: Option<(Arc<PackQueue>, Digest)>,
    /// Receives the progress of the read.
    observed: Option<Observed>,
    sent: Option<Arc<SentBytes>>,
    /// Lives until the body is dropped.
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

enum Remaining {
    Whole(Bytes),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    /// Returns an empty body.
    pub(crate) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// Returns a body of these bytes.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let left = bytes.len() as u64;
        Self { bytes: Remaining::Whole(bytes), left, counted: None, observed: None, sent: None, _guard: None }
    }

    /// Returns a part of a blob with `size` bytes. If the blob cannot be served completely, the connection is
    /// closed.
    pub(crate) fn pieces(
        source: Source,
        part: Range<u64>,
        size: u64,
        check: Check,
        queue: &Arc<PackQueue>,
    ) -> Self {
        let left = part.end - part.start;
        let (sender, receiver) = mpsc::channel(1);
        let queue = queue.clone();
        tokio::spawn(async move {
            let transfer = Transfer { part, size, check, sender: &sender, queue: &queue };
            let done = transfer.send(source);
            // Stop when the client has gone.
            let done = tokio::select! { done = done => done, () = sender.closed() => Ok(()) };
            if let Err(error) = done {
                let _ = sender.send(Err(error)).await;
            }
        });
        Self {
            bytes: Remaining::Pieces(receiver),
            left,
            counted: None,
            observed: None,
            sent: None,
            _guard: None,
        }
    }

    /// Counts the sent bytes for this blob.
    pub(crate) fn counted(mut self, queue: &Arc<PackQueue>, blob: Digest) -> Self {
        self.counted = Some((queue.clone(), blob));
        self
    }

    /// Reports the sent bytes to the observer.
    pub(crate) fn observed(mut self, observed: Option<Observed>) -> Self {
        self.observed = observed;
        self
    }

    /// Adds the sent bytes to this number.
    pub(crate) fn added_to(mut self, sent: &Arc<SentBytes>) -> Self {
        self.sent = Some(sent.clone());
        self
    }

    /// Keeps the guard until the body is dropped.
    pub(crate) fn during(mut self, guard: impl Send + Sync + 'static) -> Self {
        self._guard = Some(Box::new(guard));
        self
    }

    /// Number of bytes that are left.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = match &mut self.bytes {
            Remaining::Whole(bytes) => Ok(std::mem::take(bytes)),
            Remaining::Pieces(receiver) => match receiver.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())),
            },
        };
        Poll::Ready(Some(piece.map(|piece| {
            self.left -= piece.len() as u64;
            if let Some((queue, blob)) = &self.counted {
                queue.counters.sent(*blob, piece.len() as u64);
            }
            if let Some(sent) = &self.sent {
                sent.0.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            if let Some(observed) = &self.observed {
                observed.sent(piece.len() as u64);
            }
            if self.left == 0 {
                // A client with all bytes may close the connection before this body is dropped.
                self.observed.take().into_iter().for_each(Observed::end);
            }
            Frame::data(piece)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
