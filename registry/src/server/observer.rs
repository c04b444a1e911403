//! Who starts a server can listen to what becomes of the layers.

use std::ops::Range;
use std::sync::Arc;

use nixply_packer::digest::Digest;
use nixply_packer::pack::Progress;

/// Somebody reads a layer's blob, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The layer's place in its image, from 0. Of several images with this blob, the first one's counts.
    pub layer: usize,
    /// The blob's.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// The bytes that were asked for; never none.
    pub part: Range<u64>,
}

/// Hears what is read from a server, and what is packed for it. Called from the server's threads, several at once, between
/// two pieces of what they send: it must return soon.
///
/// Of a layer that is packed it is told as [`Progress`] is. That may be while somebody reads the layer already, or before
/// anybody can: a manifest needs the digests of all layers. A layer that nobody reads is one that the other side has already.
pub trait Observer: Progress + Send {
    /// Somebody begins to read a layer.
    fn read_begun(&self, _read: &Read) {}
    /// So many further bytes have been handed to the socket.
    fn sent(&self, _read: &Read, _bytes: u64) {}
    /// It is over: all of the part was sent, or the reader went away, or the blob could not be given to its end.
    fn read_ended(&self, _read: &Read, _whole: bool) {}
}

/// Nobody listens.
impl Observer for () {}

/// A read that is going on. However it ends, the observer hears of it.
pub(super) struct Observed {
    observer: Arc<dyn Observer>,
    read: Read,
    whole: bool,
}

impl Observed {
    /// Tells that it begins.
    pub(super) fn begin(observer: &Arc<dyn Observer>, read: Read) -> Self {
        observer.read_begun(&read);
        Self { observer: observer.clone(), read, whole: false }
    }

    /// Tells of bytes that were sent.
    pub(super) fn sent(&self, bytes: u64) {
        self.observer.sent(&self.read, bytes);
    }

    /// Tells that there are no more.
    pub(super) fn end(mut self) {
        self.whole = true;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.observer.read_ended(&self.read, self.whole);
    }
}
