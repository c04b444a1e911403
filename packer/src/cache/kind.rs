//! Kinds of entries.

/// A kind of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Compressed frames of a store path.
    Segments,
    /// Packed layers' digests.
    Layers,
    /// Hashers' states within a layer.
    States,
    /// Archive hashes of a layer's paths.
    Contents,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Segments, Self::Layers, Self::States, Self::Contents];

    /// Returns the name of their directory.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Layers => "layers",
            Self::States => "states",
            Self::Contents => "contents",
        }
    }
}
