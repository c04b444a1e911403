//! The table of strategies.

use super::text::{bytes, percent};
use crate::compare::{Comparison, StrategyResult};

/// A column of the table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Its description, as a phrase without a full stop.
    pub about: &'static str,
    /// Whether less is better (true) or more (false). None if no value is marked as the best.
    least: Option<bool>,
    number: fn(&StrategyResult) -> Option<f64>,
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
    /// Returns the cell of a strategy, with its unit.
    pub fn text(&self, of: &StrategyResult) -> String {
        match ((self.number)(of), self.unit) {
            (None, _) => "-".to_owned(),
            // Byte counts are whole numbers, exact up to 9 PB.
            (Some(number), Unit::Bytes) => bytes(number as u64),
            (Some(number), Unit::Times) => format!("{number:.2}x"),
            (Some(number), Unit::Count) => format!("{number:.1}"),
            (Some(number), Unit::Part) => percent(number),
            (Some(number), Unit::Seconds) => format!("{number:.2} s"),
        }
    }

    /// Returns the number as in the JSON.
    pub(super) fn value(&self, of: &StrategyResult) -> Option<f64> {
        (self.number)(of)
    }

    /// Returns whether `of`, one of `all`, has the best number in this column, and some other number is
    /// worse.
    pub fn is_best(&self, of: &StrategyResult, all: &[StrategyResult]) -> bool {
        if all.iter().all(|one| one.strategy != of.strategy) {
            return false;
        }
        let Some((least, number)) = self.least.zip(self.value(of)) else { return false };
        let better = |other: f64| if least { other < number } else { other > number };
        let mut others = all.iter().filter_map(|other| self.value(other));
        !others.clone().any(better) && others.any(|other| other != number)
    }
}

/// Returns the columns of the table. The columns about sharing appear only if there are several images.
pub fn columns(comparison: &Comparison) -> Vec<Column> {
    const LESS: Option<bool> = Some(true);
    let column = |title, about, least, unit, number| Column { title, about, least, number, unit };
    let mut columns = vec![
        column("push mean", "bytes that a release pushes, mean", LESS, Unit::Bytes, |of| {
            Some(of.summary.pushed.mean as f64)
        }),
        column("push p95", "95 of 100 releases push at most this number of bytes", LESS, Unit::Bytes, |of| {
            Some(of.summary.pushed.p95 as f64)
        }),
        column("to floor", "mean pushed bytes divided by those of the floor", LESS, Unit::Times, |of| {
            of.to_floor
        }),
        column(
            "pull mean",
            "bytes that a client with the previous release of an image pulls, mean",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.pulled.mean as f64),
        ),
        column(
            "pull p95",
            "in 95 of 100 releases, a client pulls at most this number of bytes",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.pulled.p95 as f64),
        ),
        column("layers moved", "new layers of all images in a release, mean", None, Unit::Count, |of| {
            Some(of.summary.layers_changed)
        }),
        column("churn", "bytes pushed in layers without a new path, mean", LESS, Unit::Bytes, |of| {
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
            "bytes of paths that occur in several layers of the last release",
            LESS,
            Unit::Bytes,
            |of| Some(of.summary.duplicates as f64),
        ));
    }
    columns.push(column(
        "plan",
        "time to plan a release while other plans are made in parallel, mean",
        None,
        Unit::Seconds,
        |of| Some(of.summary.planning_seconds),
    ));
    columns
}
