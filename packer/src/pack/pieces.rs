//! Parts of a layer's stream, as the cache stores them: parents' headers, a segment for each store path, end blocks. If
//! paths are merged to one tree, a single segment is the whole stream.

use crate::cache::{Chain, LayerKey, Origin, SegmentKey};
use crate::compress::Codec;
use crate::error::Result;
use crate::layer_path::LayerPath;
use crate::tar::{LayerStream, Reading, apart};

/// One part of a layer's stream.
pub(super) enum Piece<'l> {
    Head(Vec<Vec<u8>>),
    Segment(&'l LayerPath),
    Merged(&'l [LayerPath]),
    End,
}

/// A layer's parts in order.
pub(super) struct Pieces<'l> {
    pub(super) list: Vec<Piece<'l>>,
    /// Key of each part, if the part is a segment with known content.
    keys: Vec<Option<SegmentKey>>,
}

impl<'l> Pieces<'l> {
    pub(super) fn new(paths: &'l [LayerPath], codec: Codec) -> Self {
        let part = |path: &'l LayerPath| {
            path.nar_hash().map(|hash| (path.path.as_str(), hash, path.options.as_ref()))
        };
        let Some((parents, sorted)) = apart(paths) else {
            let parts: Option<Vec<_>> = paths.iter().map(part).collect();
            let key = parts.map(|parts| SegmentKey::new(parts, codec));
            return Self { list: vec![Piece::Merged(paths)], keys: vec![key] };
        };
        let segments = sorted.iter().map(|path| part(path).map(|part| SegmentKey::new([part], codec)));
        let keys = std::iter::once(None).chain(segments).chain([None]).collect();
        let segments = sorted.iter().map(|path| Piece::Segment(path));
        let list = std::iter::once(Piece::Head(parents)).chain(segments).chain([Piece::End]).collect();
        Self { list, keys }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn key(&self, at: usize) -> Option<&SegmentKey> {
        self.keys[at].as_ref()
    }

    /// Returns the layer's store paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &LayerPath> {
        (0..self.len()).flat_map(|at| self.paths_of(at))
    }

    /// Returns the store paths that a part is read from.
    pub(super) fn paths_of(&self, at: usize) -> &[LayerPath] {
        match self.list[at] {
            Piece::Segment(path) => std::slice::from_ref(path),
            Piece::Merged(paths) => paths,
            Piece::Head(_) | Piece::End => &[],
        }
    }

    /// Returns the origin of a segment.
    pub(super) fn origin(&self, at: usize, codec: Codec) -> Origin {
        let paths = self.paths_of(at).iter();
        Origin::new(codec, paths.map(|path| (&path.path, path.nar_hash(), path.options.as_ref())))
    }

    fn segment_keys(&self) -> impl Iterator<Item = (usize, Option<SegmentKey>)> {
        let keys = self.keys.iter().copied().enumerate();
        keys.filter(|(at, _)| matches!(self.list[*at], Piece::Segment(_) | Piece::Merged(_)))
    }

    /// Returns the layer's key, if the content of all its segments is known.
    pub(super) fn layer_key(&self) -> Option<LayerKey> {
        LayerKey::new(&self.segment_keys().map(|(_, key)| key).collect::<Vec<_>>())
    }

    /// Returns the points at which the stream can be resumed, in order: each is the number of the part that follows, and the chain
    /// of the segments before it. The list ends at the first segment whose content is unknown.
    pub(super) fn chains(&self) -> Vec<(usize, Chain)> {
        let mut chain = None;
        let mut chains = Vec::new();
        for (at, key) in self.segment_keys() {
            let Some(key) = key else { break };
            let next = Chain::with(chain, &key);
            chains.push((at + 1, next));
            chain = Some(next);
        }
        chains
    }

    /// Opens the stream of a part.
    pub(super) fn stream(&self, at: usize, reading: Reading<'l>) -> Result<LayerStream<'l>> {
        match &self.list[at] {
            Piece::Head(parents) => Ok(LayerStream::head(parents.clone(), reading)),
            Piece::Segment(path) => Ok(LayerStream::segment(path, reading)),
            Piece::Merged(paths) => LayerStream::merged(paths, reading),
            Piece::End => Ok(LayerStream::end(reading)),
        }
    }
}
