//! What a study has found, as data and as a page.

mod chart;
mod page;
mod treemap;

use nixply_packer::wording;
use serde::Serialize;

use crate::compare::{Comparison, Contended, Expectation};
use crate::sizes::Prediction;
use crate::summary::Summary;

/// The version of the fields in docs/strategies-study.md. Fields may be added without another.
pub const VERSION: u32 = 1;

/// All that was studied.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Whether what depends on a changed package changed, too.
    pub propagation: bool,
    /// Histories, in the order in which they were named.
    pub histories: Vec<Comparison>,
    /// Closures without a history, likewise.
    pub closures: Vec<Expectation>,
}

impl Report {
    /// One file of HTML, which needs no other.
    pub fn html(&self) -> String {
        // maud escapes what is markup; a browser shows nothing in the place of most other control characters.
        let page = page::of(self);
        let lines: Vec<_> = page.split('\n').map(wording::visible).collect();
        lines.join("\n")
    }
}

/// So many layers, in words.
fn layers(count: usize) -> String {
    format!("{count} layer{}", if count == 1 { "" } else { "s" })
}

/// What counts most of a comparison, in a sentence without a full stop.
pub fn headline(comparison: &Comparison) -> String {
    let all = comparison
        .limits
        .iter()
        .flat_map(|limit| limit.strategies.iter().map(move |strategy| (limit.max_layers, strategy)));
    let key = |(limit, strategy): &(usize, &Contended)| (strategy.summary.pushed.mean, *limit);
    let Some((limit, best)) = all.clone().min_by_key(key) else {
        return format!("the floor pushes {} a release", bytes(comparison.floor.summary.pushed.mean));
    };
    let beside: Vec<&Contended> = all.filter(|(of, _)| *of == limit).map(|(_, strategy)| strategy).collect();
    let mean = best.summary.pushed.mean;
    let alike = beside.iter().filter(|of| of.summary.pushed.mean == mean).map(|of| of.strategy.as_str());
    let alike: Vec<&str> = alike.collect();
    let who = match alike.as_slice() {
        [one] => format!("{one} pushes the least"),
        all if all.len() == beside.len() => "all strategies push the same".to_owned(),
        some => format!("{} push the least", some.join(", ")),
    };
    let mut text = format!("{who}: {} a release with {}", bytes(mean), layers(limit));
    if let Some(times) = best.to_floor {
        text.push_str(&format!(", {times:.2} times the floor"));
    }
    let worst = beside.into_iter().max_by_key(|of| of.summary.pushed.mean);
    let more = worst.map(|worst| (worst.summary.pushed.mean as f64 / mean.max(1) as f64, &worst.strategy));
    if let Some((more, worst)) = more.filter(|(more, _)| *more >= 1.05) {
        text.push_str(&format!("; {worst} pushes {more:.1} times as much"));
    }
    if comparison.images.len() > 1 {
        let Summary { shared, shareable, .. } = &best.summary;
        text.push_str(&format!(
            "; shared layers save {} of the {} that they could",
            percent(*shared),
            percent(*shareable)
        ));
    }
    text
}

/// What the bytes of a comparison are, in a sentence without a full stop and without its subject.
pub fn measure(comparison: &Comparison) -> String {
    let Some(prediction) = &comparison.prediction else { return "of uncompressed archives".to_owned() };
    let Prediction { codec, paths, known_paths, package_paths, ratio, assumed } = prediction;
    match assumed {
        true => format!(
            "as compressed with {codec}, by a ratio of {ratio} that is assumed: the cache knows none of {paths} paths"
        ),
        false => format!(
            "as compressed with {codec}: {known_paths} of {paths} paths as the cache has them, {package_paths} as other versions of them, \
             the rest by the mean ratio, {ratio}"
        ),
    }
}

/// A column of a table of strategies.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// What it shows, in a sentence without a full stop.
    pub about: &'static str,
    /// Whether less is better, or more; none where neither is to be marked.
    least: Option<bool>,
    number: fn(&Contended) -> Option<f64>,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Times,
    Count,
    Part,
    Seconds,
}

impl Column {
    /// What it shows of a strategy, with its unit.
    pub fn text(&self, of: &Contended) -> String {
        match ((self.number)(of), self.unit) {
            (None, _) => "-".to_owned(),
            // Byte counts are whole numbers, and exact up to 9 PB.
            (Some(number), Unit::Bytes) => bytes(number as u64),
            (Some(number), Unit::Times) => format!("{number:.2}x"),
            (Some(number), Unit::Count) => format!("{number:.1}"),
            (Some(number), Unit::Part) => percent(number),
            (Some(number), Unit::Seconds) => format!("{number:.2} s"),
        }
    }

    /// The number as the JSON has it.
    fn value(&self, of: &Contended) -> Option<f64> {
        (self.number)(of)
    }

    /// Whether none of `all` is better in it than `of`, one of them, and some are worse.
    pub fn is_best(&self, of: &Contended, all: &[Contended]) -> bool {
        if all.iter().all(|one| one.strategy != of.strategy) {
            return false;
        }
        let Some((least, number)) = self.least.zip(self.value(of)) else { return false };
        let better = |other: f64| if least { other < number } else { other > number };
        let mut others = all.iter().filter_map(|other| self.value(other));
        !others.clone().any(better) && others.any(|other| other != number)
    }
}

/// The columns of a table of strategies. What images share is shown where there are several.
pub fn columns(comparison: &Comparison) -> Vec<Column> {
    const LESS: Option<bool> = Some(true);
    let column = |title, about, least, unit, number| Column { title, about, least, number, unit };
    let mut columns = vec![
        column("push mean", "bytes that a release pushes, mean", LESS, Unit::Bytes, |of| {
            Some(of.summary.pushed.mean as f64)
        }),
        column("push p95", "bytes that 95 of 100 releases push at most", LESS, Unit::Bytes, |of| {
            Some(of.summary.pushed.p95 as f64)
        }),
        column("to floor", "mean bytes pushed by those of the floor", LESS, Unit::Times, |of| of.to_floor),
        column(
            "pull mean",
            "bytes that a client of an image pulls who has the release before, mean",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.pulled.mean as f64),
        ),
        column(
            "pull p95",
            "bytes that a client pulls at most in 95 of 100 releases",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.pulled.p95 as f64),
        ),
        column(
            "layers moved",
            "layers that are new in a release, of all images, mean",
            None,
            Unit::Count,
            |of| Some(of.summary.layers_changed),
        ),
        column("churn", "bytes pushed in layers in which no path is new, mean", LESS, Unit::Bytes, |of| {
            Some(of.summary.churned as f64)
        }),
        column("registry", "bytes in the registry after all releases", LESS, Unit::Bytes, |of| {
            Some(of.summary.registry as f64)
        }),
    ];
    if comparison.images.len() > 1 {
        columns.push(column(
            "shared",
            "part of all images' bytes that shared layers save in the last release",
            Some(false),
            Unit::Part,
            |of| Some(of.summary.shared),
        ));
        columns.push(column(
            "duplicates",
            "bytes of paths that are in several layers of the last release",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.duplicates as f64),
        ));
    }
    columns.push(column(
        "plan",
        "time to plan a release, with other plans made beside it, mean",
        None,
        Unit::Seconds,
        |of| Some(of.summary.planning_seconds),
    ));
    columns
}

/// A size in powers of 1000, as people read it.
pub fn bytes(number: u64) -> String {
    bytesize::ByteSize::b(number).display().si().to_string()
}

/// A part as a percentage.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}
