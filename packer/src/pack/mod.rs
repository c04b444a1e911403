//! Packs layers: reads, hashes and compresses their tar streams, several layers at once. Within a layer, reading runs ahead
//! of hashing and compression. The packer does not pack again what a [`Cache`](crate::cache::Cache) already has.
//!
//! All threads end with the call: a Nix process that forks builders must not have threads of the packer, let alone a global
//! pool. The number of threads times [`FRAME_BYTES`](crate::compress::FRAME_BYTES) bounds memory: at most one layer per
//! thread is in work, and the layers share the frames in flight.

mod cached;
mod compare;
mod fetched;
mod frame_index;
mod job;
mod lane;
mod output;
mod packer;
mod packing;
mod pieces;
mod queue;
mod recorded;
mod sink;
mod source;
mod states;

pub use self::cached::CachedBlob;
pub use self::fetched::{SegmentSource, WantedSegment};
pub use self::frame_index::{FrameIndex, SegmentPlace};
pub use self::packer::Packer;
pub use self::packing::Packing;
pub use self::recorded::Recorded;
pub use self::sink::{BlobSink, BlobWriter};
