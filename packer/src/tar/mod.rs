//! The tar stream of a layer: parent directory headers, one segment per store path in byte order, two zero blocks.
//!
//! The bytes are those that nix2container writes through Go's `archive/tar`, so that both have the same diff_ids.
//! A segment's bytes depend on its store path and rules alone.

mod header;
mod merge;
mod stream;

#[cfg(test)]
pub(crate) use stream::OpenFile;
pub(crate) use stream::{Fill, LayerStream, Reading, apart, header_bytes};
