//! What a path counts for where it is moved: its archive's bytes, or what they are expected to be when compressed.

use std::collections::{HashMap, HashSet};

use nixply_packer::closure::{PathInfo, StorePath};
use nixply_packer::plan::Name;
use serde::Serialize;

use crate::history::History;
use crate::rounding::rounded;

/// Compressed bytes for one of an archive where nothing is known: what packages come to with zstd and gzip, more or less.
pub const ASSUMED_RATIO: f64 = 0.3;

/// What paths count for. By default, their archives' bytes.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    sizes: HashMap<StorePath, u64>,
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
    /// Those of which another version is known: the same package and output. They count by its ratio.
    pub package_paths: usize,
    /// Compressed bytes for one of an archive. The other paths count by it.
    pub ratio: f64,
    /// Whether that is [`ASSUMED_RATIO`], for want of any known path, and not the mean of what is known.
    pub assumed: bool,
}

impl Sizes {
    /// Compressed sizes of a history's paths. `known` gives those that are known.
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

    /// Where they come from; none of archives' bytes.
    pub fn prediction(&self) -> Option<&Prediction> {
        self.prediction.as_ref()
    }

    /// What a path counts for, in bytes.
    pub(crate) fn of(&self, info: &PathInfo) -> u64 {
        self.sizes.get(&info.path).copied().unwrap_or(info.nar_size)
    }
}

/// Bytes of paths of which both sizes are known.
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
