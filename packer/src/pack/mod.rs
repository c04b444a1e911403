//! Packs layers: reads, hashes and compresses their tar streams, several layers at once and, within a layer, reading
//! ahead beside hashing and compression. What a [`Cache`](crate::cache::Cache) has is not made again.
//!
//! All threads live as long as the call: a Nix that forks builders must not find threads of ours, let alone a global
//! pool. Memory is bounded by the number of threads times [`FRAME_BYTES`](crate::compress::FRAME_BYTES): there are never
//! more layers in work than threads, and the frames in flight are shared out among them.

mod cached;
mod compare;
mod job;
mod lane;
mod output;
mod packer;
mod pieces;
mod queue;
mod recorded;
mod sink;
mod source;
mod states;

pub use self::cached::CachedBlob;
pub use self::packer::Packer;
pub use self::recorded::Recorded;
pub use self::sink::{BlobSink, BlobWriter};
