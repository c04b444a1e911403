//! The store paths that a segment is made from. The segment's file stores them after the frames.

use nixply_planning::{PathOptions, PlannedPath, StorePath};
use serde::{Deserialize, Serialize};

use super::segments::SegmentKey;
use crate::compress::Codec;

/// Input of a segment: everything that its key is a hash of. It makes it possible to compare the segment with the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    codec: Codec,
    paths: Vec<OriginPath>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OriginPath {
    path: StorePath,
    #[serde(rename = "narHash")]
    nar_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<PathOptions>,
}

impl Origin {
    /// Creates an origin from paths, each with its archive's hash and rules. Leaves out paths without a hash: their segments
    /// have no key.
    pub(crate) fn new<'p>(
        codec: Codec,
        paths: impl Iterator<Item = (&'p StorePath, Option<&'p str>, Option<&'p PathOptions>)>,
    ) -> Self {
        let path = |(path, nar_hash, options): (&StorePath, Option<&str>, Option<&PathOptions>)| {
            let nar_hash = nar_hash?.to_owned();
            Some(OriginPath { path: path.clone(), nar_hash, options: options.cloned() })
        };
        Self { codec, paths: paths.filter_map(path).collect() }
    }

    /// Returns the key of the segment that is made from this origin.
    pub(crate) fn key(&self) -> SegmentKey {
        let parts = self.paths.iter().map(|of| (of.path.as_str(), of.nar_hash.as_str(), of.options.as_ref()));
        SegmentKey::new(parts, self.codec)
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the paths with their archives' hashes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (PlannedPath, &str)> {
        self.paths.iter().map(|path| {
            let planned = PlannedPath { path: path.path.clone(), options: path.options.clone() };
            (planned, path.nar_hash.as_str())
        })
    }
}
