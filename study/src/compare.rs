//! Compares strategies on a history or a closure.

use std::num::NonZero;

use nixply_planning::plan::{self, Options};
use nixply_planning::{Closure, PlannedPath};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::expected::{self, Weights};
use crate::history::History;
use crate::metrics::ReleaseMetrics;
use crate::replay::{Contender, Layer, Replay};
use crate::rounding::{mean, rounded};
use crate::sizes::{Prediction, Sizes};
use crate::summary::Summary;

/// The strategies and limits to compare.
#[derive(Debug, Clone)]
pub struct Study {
    /// The strategies. Every study includes the floor; do not list it.
    pub contenders: Vec<Contender>,
    /// Maximum numbers of layers per image. Each gets a table.
    pub limits: Vec<usize>,
    /// Number of releases after the first that are planned but not measured.
    pub warm_up: usize,
}

/// Results of the strategies for a history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The history's name.
    pub history: String,
    /// Its description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The images. Layers refer to them by index.
    pub images: Vec<String>,
    /// All releases.
    pub releases: Vec<String>,
    /// Number of measured releases, the last ones.
    pub measured: usize,
    /// Estimate of the compressed sizes. Absent if bytes are those of uncompressed archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Paths of the last release, each counted once.
    pub paths: usize,
    /// Bytes of these paths.
    pub bytes: u64,
    /// Lower bounds: one layer per path.
    pub floor: StrategyResult,
    /// Results for each limit.
    pub limits: Vec<LimitResults>,
}

/// Results of the strategies for one limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitResults {
    /// Maximum number of layers per image.
    pub max_layers: usize,
    /// The strategies, in the given order.
    pub strategies: Vec<StrategyResult>,
}

/// Results of one strategy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StrategyResult {
    /// Its name.
    pub strategy: String,
    /// Mean pushed bytes divided by the floor's. Absent if the floor pushes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_floor: Option<f64>,
    /// Its summary.
    #[serde(flatten)]
    pub summary: Summary,
    /// Numbers of each release, including the first and the warm-up.
    pub series: Series,
    /// The layers of the last release, the largest first. Empty for the floor.
    pub layers: Vec<Layer>,
}

/// One number per release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// Pushed bytes. The first release pushes everything.
    pub pushed: Vec<u64>,
    /// Pulled bytes, the mean over all images. The first is 0.
    pub pulled: Vec<u64>,
    /// Pushed bytes in layers without a new path.
    pub churned: Vec<u64>,
    /// Number of new layers.
    pub layers_changed: Vec<usize>,
    /// Bytes in the registry.
    pub registry: Vec<u64>,
}

impl Series {
    fn of(releases: &[ReleaseMetrics]) -> Self {
        Self {
            pushed: releases.iter().map(|moved| moved.pushed).collect(),
            pulled: releases.iter().map(|moved| mean(&moved.pulled)).collect(),
            churned: releases.iter().map(|moved| moved.churned).collect(),
            layers_changed: releases.iter().map(|moved| moved.layers_changed).collect(),
            registry: releases.iter().map(|moved| moved.registry).collect(),
        }
    }
}

/// Creates a pool with a thread per core, or with fewer threads if the system limits them. Returns `None` if the
/// system allows no threads.
fn pool() -> Option<rayon::ThreadPool> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let halves = std::iter::successors(Some(cores), |threads| Some(threads / 2).filter(|half| *half > 0));
    halves
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
        .find_map(|pool| pool.ok())
}

impl Study {
    /// Returns how often [`Study::compare`] calls its `step`.
    pub fn steps(&self, history: &History) -> usize {
        (self.contenders.len() * self.limits.len() + 1) * history.releases.len()
    }

    /// Replays a history, with several strategies in parallel. `sizes` determines the size of a path. Calls
    /// `step` after each planned release.
    pub fn compare(&self, history: &History, sizes: &Sizes, step: &(dyn Fn() + Sync)) -> Result<Comparison> {
        let count = history.releases.len();
        let measured = count.saturating_sub(1 + self.warm_up);
        if measured == 0 {
            let why = match self.warm_up {
                0 => format!("it has {count} release, and nothing moves before the second"),
                n => {
                    format!("it has {count} releases, and none is left after the first and a warm-up of {n}")
                }
            };
            return Err(Error::invalid(format!("history {}", history.name), why));
        }
        let mut jobs = vec![(&Contender::Floor, 1)];
        jobs.extend(
            self.limits.iter().flat_map(|limit| self.contenders.iter().map(move |who| (who, *limit))),
        );
        let replayed =
            |(contender, limit): &(&Contender, usize)| Replay::of(history, contender, *limit, sizes, step);
        let replays: Result<Vec<Replay>> = match pool() {
            // Threads take one job at a time, because some jobs take much longer than others.
            Some(pool) => pool.install(|| jobs.par_iter().with_max_len(1).map(replayed).collect()),
            None => jobs.iter().map(replayed).collect(),
        };
        let replays = replays?;
        let mut floor_mean = None;
        let mut all = jobs.iter().zip(replays).map(|((contender, _), replay)| {
            let summary = Summary::of(&replay.releases, self.warm_up).expect("some are measured");
            let floor = *floor_mean.get_or_insert(summary.pushed.mean);
            StrategyResult {
                strategy: contender.name(),
                to_floor: (floor > 0).then(|| rounded(summary.pushed.mean as f64 / floor as f64)),
                summary,
                series: Series::of(&replay.releases),
                layers: if **contender == Contender::Floor { Vec::new() } else { replay.layers },
            }
        });
        let floor = all.next().expect("it is the first job");
        let limits = self.limits.iter().map(|limit| LimitResults {
            max_layers: *limit,
            strategies: all.by_ref().take(self.contenders.len()).collect(),
        });
        let limits = limits.collect();
        Ok(Comparison {
            history: history.name.clone(),
            about: history.about.clone(),
            images: history.images.clone(),
            releases: history.releases.iter().map(|release| release.name.clone()).collect(),
            measured,
            prediction: sizes.prediction().cloned(),
            // The floor's layers are the paths.
            paths: floor.summary.layer_count,
            bytes: floor.summary.stored,
            floor,
            limits,
        })
    }

    /// Returns the bytes that the strategies are expected to move for one closure. Omits contenders that use a
    /// lock file or plan several images together, because one closure has neither.
    pub fn expect(&self, name: &str, closure: &Closure) -> Result<Expectation> {
        let mut plans = vec![
            closure.iter().map(|info| vec![PlannedPath { path: info.path.clone(), options: None }]).collect(),
        ];
        let mut names = Vec::new();
        for limit in &self.limits {
            for contender in &self.contenders {
                let Contender::Independent(strategy) = contender else { continue };
                let options = Options { strategy: *strategy, max_layers: *limit, ..Options::default() };
                let made = plan::plan(closure, &options).map_err(|source| Error::Closure {
                    strategy: contender.name(),
                    closure: name.to_owned(),
                    source: Box::new(source),
                })?;
                plans.push(made);
                names.push((*limit, contender.name()));
            }
        }
        let weights = [Weights::Structural, Weights::Even, Weights::Leaves];
        let bytes = expected::bytes_per_change(closure, &plans.iter().collect::<Vec<_>>(), &weights);
        let whole = |bytes: &Vec<f64>| bytes.iter().map(|bytes| bytes.round() as u64).collect::<Vec<_>>();
        let row = |strategy: &str, bytes: &Vec<f64>| {
            let bytes = whole(bytes);
            let [structural, even, leaves] = bytes[..] else { unreachable!("one for each of the weights") };
            ExpectedBytes { strategy: strategy.to_owned(), structural, even, leaves }
        };
        let mut limits: Vec<ExpectedLimitResults> = Vec::new();
        for ((limit, name), bytes) in names.iter().zip(&bytes[1..]) {
            if limits.last().is_none_or(|last| last.max_layers != *limit) {
                limits.push(ExpectedLimitResults { max_layers: *limit, strategies: Vec::new() });
            }
            limits.last_mut().expect("one was pushed").strategies.push(row(name, bytes));
        }
        Ok(Expectation {
            closure: name.to_owned(),
            paths: closure.len(),
            bytes: closure.iter().map(|info| info.nar_size).sum(),
            floor: row("floor", &bytes[0]),
            limits,
        })
    }
}

/// Expected results for one closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// The closure's name.
    pub closure: String,
    /// Number of paths.
    pub paths: usize,
    /// Bytes of these paths.
    pub bytes: u64,
    /// Lower bounds: one layer per path.
    pub floor: ExpectedBytes,
    /// Results for each limit.
    pub limits: Vec<ExpectedLimitResults>,
}

/// Expected results for one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedLimitResults {
    /// Maximum number of layers.
    pub max_layers: usize,
    /// The strategies, in the given order.
    pub strategies: Vec<ExpectedBytes>,
}

/// Expected number of bytes that a changed path and its dependents move; see [`Weights`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedBytes {
    /// The strategy.
    pub strategy: String,
    /// If paths with many dependents change less often.
    pub structural: u64,
    /// If all paths change equally often.
    pub even: u64,
    /// If only leaves change.
    pub leaves: u64,
}
