//! Compares two image indexes, platform by platform.

use nixply_packer::image::IndexSpec;
use serde::Serialize;

use super::{Diff, PathFacts};

/// The differences of two image indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexDiff {
    /// Platforms whose image both indexes have, in the order of the new index.
    pub images: Vec<PlatformDiff>,
    /// Platforms that only the new index has.
    pub added: Vec<String>,
    /// Platforms that only the old index has.
    pub removed: Vec<String>,
    /// Platforms whose images have other annotations in the index, and `index` if its own annotations differ.
    pub annotations: Vec<String>,
}

/// The differences of the images for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformDiff {
    /// The platform, with the codec of an image in zstd: `linux/amd64 (zstd)`.
    pub platform: String,
    /// The differences.
    #[serde(flatten)]
    pub diff: Diff,
}

impl IndexDiff {
    /// Compares `old` and `new`. An image in zstd is compared with one in zstd.
    pub fn new(old: &IndexSpec, new: &IndexSpec, facts: &PathFacts) -> Self {
        let find =
            |index: &IndexSpec, title: &str| index.images.iter().position(|image| image.title() == title);
        let (mut images, mut added, mut annotations) = (Vec::new(), Vec::new(), Vec::new());
        for image in &new.images {
            let platform = image.title();
            let Some(at) = find(old, &platform) else {
                added.push(platform);
                continue;
            };
            let before = &old.images[at];
            if before.annotations != image.annotations {
                annotations.push(platform.clone());
            }
            images.push(PlatformDiff { platform, diff: Diff::new(&before.spec, &image.spec, facts) });
        }
        if old.annotations != new.annotations {
            annotations.push("index".into());
        }
        let titles = old.images.iter().map(|image| image.title());
        let removed = titles.filter(|title| find(new, title).is_none()).collect();
        Self { images, added, removed, annotations }
    }

    /// Returns whether the indexes are the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.annotations.is_empty()
            && self.images.iter().all(|image| image.diff.is_empty())
    }
}
