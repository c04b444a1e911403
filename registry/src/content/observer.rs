//! Notifies the server's owner of the layers that are packed and read.

use std::ops::Range;
use std::sync::Arc;

use nixply_oci::Digest;
use nixply_packer::Progress;

/// A read of a layer's blob, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The layer's index in its image. If several images have this blob, the index in the first one.
    pub layer: usize,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// The requested bytes, at least one.
    pub part: Range<u64>,
}

/// Receives events when layers are packed and read. The server's threads call it, several at once, between
/// two pieces that they send, so it must return soon.
///
/// [`Progress`] reports packing. A layer may be packed while a client already reads it, or before any client
/// can read it, because a manifest needs the digests of all layers. If a layer is not read, the client
/// already has it.
pub trait Observer: Progress + Send {
    /// A client starts to read a layer.
    fn read_begun(&self, _read: &Read) {}
    /// The socket has accepted this many more bytes.
    fn sent(&self, _read: &Read, _bytes: u64) {}
    /// The read has ended: all of the part was sent, or the client went away, or the blob could not be served
    /// completely.
    fn read_ended(&self, _read: &Read, _whole: bool) {}
}

/// Ignores all events.
impl Observer for () {}

/// A running read. The observer receives its end in every case.
pub(crate) struct Observed {
    observer: Arc<dyn Observer>,
    read: Read,
    whole: bool,
}

impl Observed {
    /// Reports the start.
    pub(crate) fn begin(observer: &Arc<dyn Observer>, read: Read) -> Self {
        observer.read_begun(&read);
        Self { observer: observer.clone(), read, whole: false }
    }

    /// Reports sent bytes.
    pub(crate) fn sent(&self, bytes: u64) {
        self.observer.sent(&self.read, bytes);
    }

    /// Reports the end.
    pub(crate) fn end(mut self) {
        self.whole = true;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.observer.read_ended(&self.read, self.whole);
    }
}
