//! Strategies beside each other, on one history or one closure.

use std::num::NonZero;

use nixply_packer::closure::Closure;
use nixply_packer::plan::{self, Options, PlannedPath};
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

/// What is compared.
#[derive(Debug, Clone)]
pub struct Study {
    /// The strategies. The floor is not one of them: it is always there.
    pub contenders: Vec<Contender>,
    /// At most so many layers an image, one table for each.
    pub limits: Vec<usize>,
    /// So many releases after the first are planned and not measured.
    pub warm_up: usize,
}

/// What strategies come to on a history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The history's name.
    pub history: String,
    /// What it is of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Images, by which layers name theirs.
    pub images: Vec<String>,
    /// All releases.
    pub releases: Vec<String>,
    /// How many of the last ones are measured.
    pub measured: usize,
    /// How compressed sizes were predicted; absent where bytes are those of archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Paths of the last release, each once.
    pub paths: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Lower bounds: a layer for each path.
    pub floor: StrategyResult,
    /// The strategies, for each limit.
    pub limits: Vec<LimitResults>,
}

/// What strategies come to with so many layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitResults {
    /// At most so many layers an image.
    pub max_layers: usize,
    /// In the order in which they were named.
    pub strategies: Vec<StrategyResult>,
}

/// What one strategy comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StrategyResult {
    /// Its name.
    pub strategy: String,
    /// Mean bytes pushed by the floor's; absent where the floor pushes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_floor: Option<f64>,
    /// Its numbers.
    #[serde(flatten)]
    pub summary: Summary,
    /// Each release's, the first one and those of the warm-up, too.
    pub series: Series,
    /// The layers of the last release, the largest first; none of the floor.
    pub layers: Vec<Layer>,
}

/// Numbers of all releases, one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// Bytes pushed; the first is all that there is.
    pub pushed: Vec<u64>,
    /// Bytes pulled, the mean of all images; the first is 0.
    pub pulled: Vec<u64>,
    /// Bytes pushed in layers without a new path.
    pub churned: Vec<u64>,
    /// Layers that are new.
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

/// As many threads as there are cores, or as the system gives. None where it gives none.
fn pool() -> Option<rayon::ThreadPool> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let halves = std::iter::successors(Some(cores), |threads| Some(threads / 2).filter(|half| *half > 0));
    halves
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
        .find_map(|pool| pool.ok())
}

impl Study {
    /// How often [`Study::compare`] calls its `step`.
    pub fn steps(&self, history: &History) -> usize {
        (self.contenders.len() * self.limits.len() + 1) * history.releases.len()
    }

    /// Replays a history, several strategies at once. What is moved counts by `sizes`. `step` is called after each release that one of them has planned.
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
            // One job after another is taken: they take very different times.
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
            // The floor has each path once.
            paths: floor.summary.layer_count,
            bytes: floor.summary.stored,
            floor,
            limits,
        })
    }

    /// What strategies are expected to move of one closure. Those with a memory have nothing to remember and are left out.
    pub fn expect(&self, name: &str, closure: &Closure) -> Result<Expectation> {
        let mut plans = vec![
            closure.iter().map(|info| vec![PlannedPath { path: info.path.clone(), options: None }]).collect(),
        ];
        let mut names = Vec::new();
        for limit in &self.limits {
            for contender in &self.contenders {
                let Contender::Independent(strategy) = contender else { continue };
                let options =
                    Options { strategy: strategy.clone(), max_layers: *limit, ..Options::default() };
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

/// What strategies are expected to move of one closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// The closure's name.
    pub closure: String,
    /// Its paths.
    pub paths: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Lower bounds: a layer for each path.
    pub floor: ExpectedBytes,
    /// The strategies, for each limit.
    pub limits: Vec<ExpectedLimitResults>,
}

/// What strategies are expected to move with so many layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedLimitResults {
    /// At most so many layers.
    pub max_layers: usize,
    /// In the order in which they were named.
    pub strategies: Vec<ExpectedBytes>,
}

/// Bytes that one changed path and its dependents are expected to move; see [`Weights`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedBytes {
    /// The strategy.
    pub strategy: String,
    /// Where much depended on changes less often.
    pub structural: u64,
    /// Where all change alike.
    pub even: u64,
    /// Where only leaves change.
    pub leaves: u64,
}
