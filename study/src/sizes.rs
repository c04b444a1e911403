//! What a path counts for where it is moved: its archive's bytes, or what they are expected to be when compressed.

use std::collections::{HashMap, HashSet};

use nixply_packer::closure::{PathInfo, StorePath};
use serde::Serialize;

use crate::history::History;
use crate::summary::rounded;

/// Compressed bytes for one of an archive where nothing is known: what packages come to with zstd and gzip, more or less.
pub const ASSUMED_RATIO: f64 = 0.3;

/// What paths count for. By default, their archives' bytes.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    known: HashMap<StorePath, u64>,
    prediction: Option<Prediction>,
}

/// Where compressed sizes come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// The codec.
    pub codec: String,
    /// Different paths of all releases.
    pub paths: usize,
    /// Those of which the compressed size is known. They count for that.
    pub known_paths: usize,
    /// Compressed bytes for one of an archive. The other paths count by it.
    pub ratio: f64,
    /// Whether that is [`ASSUMED_RATIO`], for want of any known path, and not the mean of what is known.
    pub assumed: bool,
}

impl Sizes {
    /// Compressed sizes of a history's paths. `known` gives those that are known.
    pub fn compressed(history: &History, codec: &str, known: impl Fn(&PathInfo) -> Option<u64>) -> Self {
        let mut seen: HashSet<&StorePath> = HashSet::new();
        let mut sizes = HashMap::new();
        let (mut archives, mut compressed) = (0u128, 0u128);
        let closures = history.releases.iter().flat_map(|release| &release.closures);
        for info in closures.flat_map(|closure| closure.iter()) {
            if !seen.insert(&info.path) {
                continue;
            }
            if let Some(size) = known(info) {
                archives += u128::from(info.nar_size);
                compressed += u128::from(size);
                sizes.insert(info.path.clone(), size);
            }
        }
        let mean = (archives > 0).then(|| rounded(compressed as f64 / archives as f64));
        let prediction = Prediction {
            codec: codec.to_owned(),
            paths: seen.len(),
            known_paths: sizes.len(),
            ratio: mean.unwrap_or(ASSUMED_RATIO),
            assumed: mean.is_none(),
        };
        Self { known: sizes, prediction: Some(prediction) }
    }

    /// Where they come from; none of archives' bytes.
    pub fn prediction(&self) -> Option<&Prediction> {
        self.prediction.as_ref()
    }

    /// What a path counts for, in bytes.
    pub(crate) fn of(&self, info: &PathInfo) -> u64 {
        let known = self.known.get(&info.path).copied();
        known.unwrap_or_else(|| match &self.prediction {
            Some(prediction) => (info.nar_size as f64 * prediction.ratio).round() as u64,
            None => info.nar_size,
        })
    }
}
