//! Results of earlier calls, in a directory that the caller names:
//!
//! - `segments`: the compressed frames of a store path. The key is the path's content, name, rules and codec. A blob is the
//!   concatenation of its segments, so a new plan over known paths compresses nothing.
//! - `layers`: digests and sizes of a packed layer. The key is the layer's segments. An unchanged layer costs one lookup.
//! - `states`: SHA-256 states within a layer. A changed layer is hashed from its first change on.
//! - `contents`: the archive hashes of a layer's store paths. The key is the diff_id. A spec lacks these hashes, and the keys
//!   of segments need them. Also the directories and links of a base image: listing them means decompressing all its layers.
//!
//! An entry is a file named by its key. It is written under another name and renamed, so any number of processes can use the
//! directory, and each can be killed at any time. An entry counts as absent when it is missing, torn or altered (each has a
//! checksum), or when another user could have written it (`access`). An entry that cannot be written is skipped. `gc`
//! bounds the size.
//!
//! Segments, layers and states record whether the store was checked when they were made. Entries without that record count as
//! unchecked: see [`Packer::with_store_check`](crate::pack::Packer::with_store_check).

mod access;
mod entries;
mod gc;
mod kind;
mod layers;
mod origin;
mod segments;
mod states;
mod written;

pub use self::entries::Cache;
pub use self::gc::{Compared, Others};
pub(crate) use self::layers::CachedLayer;
pub use self::layers::LayerKey;
pub(crate) use self::origin::Origin;
pub(crate) use self::segments::{SegmentKey, SegmentReader, SegmentWriter, Stored, grow};
pub(crate) use self::states::{Chain, State};
