//! The bytes of an answer. A blob's are read piece by piece on threads that may block, one piece ahead of the
//! socket; memory for a reader is bounded by that.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use nixply_packer::digest::Digest;
use tokio::sync::mpsc;

use super::connections::Answering;
use super::observer::Observed;
use super::pump::{Source, pump};
use super::workshop::Workshop;

/// An answer's body, of a length that is known.
pub(super) struct Body {
    bytes: Remaining,
    left: u64,
    /// Whose bytes to count.
    counted: Option<(Arc<Workshop>, Digest)>,
    /// Whom to tell.
    observed: Option<Observed>,
    /// Ends with this.
    _answering: Option<Answering>,
}

enum Remaining {
    Whole(Bytes),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    /// No bytes.
    pub(super) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// These bytes.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let left = bytes.len() as u64;
        Self { bytes: Remaining::Whole(bytes), left, counted: None, observed: None, _answering: None }
    }

    /// A part of a blob with `size` bytes. Where the blob cannot be given to its end, the connection is cut.
    pub(super) fn pieces(source: Source, part: Range<u64>, size: u64, workshop: &Arc<Workshop>) -> Self {
        let left = part.end - part.start;
        let (sender, receiver) = mpsc::channel(1);
        let workshop = workshop.clone();
        tokio::spawn(async move {
            let done = pump(source, part, size, &sender, &workshop);
            // Whoever has gone waits for nothing.
            let done = tokio::select! { done = done => done, () = sender.closed() => Ok(()) };
            if let Err(error) = done {
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { bytes: Remaining::Pieces(receiver), left, counted: None, observed: None, _answering: None }
    }

    /// Counts what is sent as this blob's.
    pub(super) fn counted(mut self, workshop: &Arc<Workshop>, blob: Digest) -> Self {
        self.counted = Some((workshop.clone(), blob));
        self
    }

    /// Tells of what is sent.
    pub(super) fn observed(mut self, observed: Option<Observed>) -> Self {
        self.observed = observed;
        self
    }

    /// Keeps this until all is handed over.
    pub(super) fn during(mut self, answering: Answering) -> Self {
        self._answering = Some(answering);
        self
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
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
            if let Some((workshop, blob)) = &self.counted {
                workshop.counters.sent(*blob, piece.len() as u64);
            }
            if let Some(observed) = &self.observed {
                observed.sent(piece.len() as u64);
            }
            if self.left == 0 {
                // Whoever has all of it may be gone before this body is.
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
