//! Summarises a replay.

use serde::Serialize;

use crate::metrics::ReleaseMetrics;
use crate::rounding::{mean, rounded};

/// Summary of a replay. Bytes are those of archives. Means are over the measured releases, rounded to whole
/// bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Bytes that a release pushes.
    pub pushed: Spread,
    /// Bytes that a client with the previous release pulls: for each release the mean over its images.
    pub pulled: Spread,
    /// Of the pushed bytes, those in layers without a new path; a mean.
    pub churned: u64,
    /// Layers of all images that are not in the previous release, each counted once; a mean.
    pub layers_changed: f64,
    /// Layers of all images of the last release, each counted once.
    pub layer_count: usize,
    /// Bytes of these layers.
    pub stored: u64,
    /// Bytes in several of these layers: `stored` minus each path's bytes once.
    pub duplicates: u64,
    /// The part of all images' bytes in the last release that shared layers save.
    pub shared: f64,
    /// The same part with one layer per path.
    pub shareable: f64,
    /// Bytes in the registry after the last release, if nothing is ever removed.
    pub registry: u64,
    /// Time to plan a release with all its images; a mean.
    pub planning_seconds: f64,
}

/// Distribution of a number over releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: u64,
    /// The 95th percentile by nearest rank: 95 of 100 releases have at most this number.
    pub p95: u64,
}

impl Spread {
    /// Summarises at least one number.
    fn of(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        let rank = (numbers.len() * 95).div_ceil(100);
        Self { mean: mean(&numbers), p95: numbers[rank - 1] }
    }
}

impl Summary {
    /// Summarises the releases after the first and `warm_up` more. Returns `None` if no release is left.
    pub fn of(releases: &[ReleaseMetrics], warm_up: usize) -> Option<Self> {
        let measured = releases.get(1 + warm_up..).filter(|measured| !measured.is_empty())?;
        let last = measured.last()?;
        let saved = |bytes: u64| rounded(1.0 - bytes as f64 / last.alone.max(1) as f64);
        let changed: usize = measured.iter().map(|moved| moved.layers_changed).sum();
        let planning: f64 = measured.iter().map(|moved| moved.planning.as_secs_f64()).sum();
        Some(Self {
            pushed: Spread::of(measured.iter().map(|moved| moved.pushed).collect()),
            pulled: Spread::of(measured.iter().map(|moved| mean(&moved.pulled)).collect()),
            churned: mean(&measured.iter().map(|moved| moved.churned).collect::<Vec<_>>()),
            layers_changed: rounded(changed as f64 / measured.len() as f64),
            layer_count: last.layers,
            stored: last.stored,
            duplicates: last.stored - last.ceiling,
            shared: saved(last.stored),
            shareable: saved(last.ceiling),
            registry: last.registry,
            planning_seconds: rounded(planning / measured.len() as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentile_is_one_of_the_numbers() {
        let spread = |numbers: &[u64]| Spread::of(numbers.to_vec());
        assert_eq!(spread(&[7]), Spread { mean: 7, p95: 7 });
        assert_eq!(spread(&[3, 1, 2]), Spread { mean: 2, p95: 3 });
        assert_eq!(spread(&(1..=20).rev().collect::<Vec<_>>()), Spread { mean: 11, p95: 19 });
        assert_eq!(spread(&(1..=100).collect::<Vec<_>>()), Spread { mean: 51, p95: 95 });
    }

    #[test]
    fn first_release_and_warm_up_are_not_measured() {
        let release = |pushed, pulled: &[u64], layers_changed| ReleaseMetrics {
            pushed,
            churned: pushed / 10,
            pulled: pulled.to_vec(),
            layers_changed,
            layers: 6,
            stored: 700,
            ceiling: 600,
            alone: 1000,
            registry: pushed * 2,
            planning: Duration::from_millis(250),
        };
        let releases = [release(9000, &[], 9), release(100, &[50, 70], 3), release(300, &[100, 301], 4)];
        let summary = Summary::of(&releases, 0).unwrap();
        let expected = Summary {
            pushed: Spread { mean: 200, p95: 300 },
            // The mean of 60 and 201 is 130.5.
            pulled: Spread { mean: 131, p95: 201 },
            churned: 20,
            layers_changed: 3.5,
            layer_count: 6,
            stored: 700,
            duplicates: 100,
            shared: 0.3,
            shareable: 0.4,
            registry: 600,
            planning_seconds: 0.25,
        };
        assert_eq!(summary, expected);
        assert_eq!(Summary::of(&releases, 1).unwrap().pushed, Spread { mean: 300, p95: 300 });
        assert!(Summary::of(&releases, 2).is_none() && Summary::of(&[], 0).is_none());
    }
}
