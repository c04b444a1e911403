//! Sizes of paths: the bytes of their archives, or an estimate of their compressed size.

use std::collections::{HashMap, HashSet};

use nixply_planning::plan::Name;
use nixply_planning::{PathInfo, StorePath};
use serde::Serialize;

use crate::history::History;
use crate::rounding::rounded;

/// Assumed ratio of compressed to uncompressed bytes when nothing is known. Packages reach about this ratio
/// with zstd and gzip.
pub const ASSUMED_RATIO: f64 = 0.3;

/// Sizes of paths. The default is their archives' bytes.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    sizes: HashMap<StorePath, u64>,
    prediction: Option<Prediction>,
}

/// Source of the compressed sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// The codec.
    pub codec: String,
    /// Number of different paths in all releases.
    pub paths: usize,
    /// Number of paths with a known compressed size.
    pub known_paths: usize,
    /// Number of paths whose compressed size is estimated from another version of the same package and
    /// output.
    pub package_paths: usize,
    /// Ratio of compressed to uncompressed bytes that applies to the other paths.
    pub ratio: f64,
    /// Whether `ratio` is [`ASSUMED_RATIO`], because no path is known, rather than the mean ratio of known
    /// paths.
    pub assumed: bool,
}

impl Sizes {
    /// Estimates the compressed sizes of a history's paths. `known` returns the sizes that are known.
    pub fn compressed<'h>(
        history: &'h History,
        codec: &str,
        known: impl Fn(&PathInfo) -> Option<u64>,
    ) -> Self {
        let closures = history.releases.iter().flat_map(|release| &release.closures);
        let mut seen: HashSet<&StorePath> = HashSet::new();
        let infos: Vec<&PathInfo> =
            closures.flat_map(|closure| closure.iter()).filter(|info| seen.insert(&info.path)).collect();
        let package = |info: &'h PathInfo| {
            let name = Name::of(&info.path);
            (name.package, name.output)
        };
        let (mut all, mut packages) = (Totals::default(), HashMap::<_, Totals>::new());
        let mut sizes = HashMap::new();
        for info in &infos {
            if let Some(size) = known(info) {
                sizes.insert(info.path.clone(), size);
                for known in [&mut all, packages.entry(package(info)).or_default()] {
                    known.archives += u128::from(info.nar_size);
                    known.compressed += u128::from(size);
                }
            }
        }
        let known_paths = sizes.len();
        let ratio = all.ratio().map(rounded);
        let mut package_paths = 0;
        for info in &infos {
            sizes.entry(info.path.clone()).or_insert_with(|| {
                let of_package = packages.get(&package(info)).and_then(Totals::ratio);
                package_paths += usize::from(of_package.is_some());
                let ratio = of_package.or(ratio).unwrap_or(ASSUMED_RATIO);
                (info.nar_size as f64 * ratio).round() as u64
            });
        }
        let prediction = Prediction {
            codec: codec.to_owned(),
            paths: infos.len(),
            known_paths,
            package_paths,
            ratio: ratio.unwrap_or(ASSUMED_RATIO),
            assumed: ratio.is_none(),
        };
        Self { sizes, prediction: Some(prediction) }
    }

    /// Returns the source of the estimated sizes, or `None` if the sizes are those of archives.
    pub fn prediction(&self) -> Option<&Prediction> {
        self.prediction.as_ref()
    }

    /// Returns the size of a path in bytes.
    pub(crate) fn of(&self, info: &PathInfo) -> u64 {
        self.sizes.get(&info.path).copied().unwrap_or(info.nar_size)
    }
}

/// Total bytes of paths with both sizes known.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    archives: u128,
    compressed: u128,
}

impl Totals {
    fn ratio(&self) -> Option<f64> {
        (self.archives > 0).then(|| self.compressed as f64 / self.archives as f64)
    }
}
