//! Medians of the runs.

use crate::rows::Row;
use crate::scenario::{self, SCENARIOS, Scenario};

/// The contenders' medians in one scenario, with one closure and one codec.
#[derive(Debug, Clone)]
pub struct Group {
    /// One of the rows, for the columns with the same value in all rows.
    pub row: Row,
    /// The contenders, in the order of their first rows.
    pub contenders: Vec<Median>,
}

/// The medians of one contender's runs, computed separately for each column.
#[derive(Debug, Clone, PartialEq)]
pub struct Median {
    /// The contender.
    pub contender: String,
    /// Number of runs.
    pub runs: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// CPU seconds.
    pub cpu: f64,
    /// Peak resident memory of the largest process, in KiB.
    pub max_rss_kib: f64,
    /// Uploaded bytes.
    pub sent_bytes: Option<f64>,
    /// Uploaded blobs.
    pub sent_blobs: Option<f64>,
    /// Bytes of blobs from the registry.
    pub fetched_bytes: Option<f64>,
    /// Requests to the registry.
    pub requests: Option<f64>,
    /// CPU seconds of the registry.
    pub registry_cpu: Option<f64>,
}

impl Group {
    /// Returns one contender's medians.
    pub fn of(&self, contender: &str) -> Option<&Median> {
        self.contenders.iter().find(|median| median.contender == contender)
    }

    /// Returns the scenario with changed MiB and codec, for tables.
    pub fn label(&self) -> String {
        let codec = if self.row.codec.is_empty() { String::new() } else { format!(", {}", self.row.codec) };
        let changed = self.row.changed_mib.map(|changed| format!(", {changed} MiB")).unwrap_or_default();
        format!("{}{changed}{codec}", self.row.scenario)
    }
}

/// Groups the rows: closures from small to large, then scenarios in their order, with the pushes of one codec together.
pub fn groups(rows: &[Row]) -> Vec<Group> {
    let key = |row: &Row| (row.closure.clone(), row.scenario, row.codec.clone(), row.changed_mib);
    let mut keys = Vec::new();
    for row in rows {
        if !keys.contains(&key(row)) {
            keys.push(key(row));
        }
    }
    // The pushes with one codec come before those with the next.
    let section = |scenario: Scenario| match scenario.group() {
        Some(scenario::Group::Push) => {
            SCENARIOS.iter().position(|any| any.group() == Some(scenario::Group::Push))
        }
        _ => Some(scenario.rank()),
    };
    let bytes = |name: &String| rows.iter().filter(|row| row.closure == *name).map(|row| row.bytes).max();
    keys.sort_by_cached_key(|key| {
        (bytes(&key.0), key.0.clone(), section(key.1), key.2.clone(), key.1.rank(), key.3)
    });
    let group = |wanted| {
        let rows: Vec<&Row> = rows.iter().filter(|row| key(row) == wanted).collect();
        let mut names: Vec<&str> = Vec::new();
        for row in &rows {
            if !names.contains(&row.contender.as_str()) {
                names.push(&row.contender);
            }
        }
        let contenders = names.into_iter().map(|name| {
            let own: Vec<&Row> = rows.iter().copied().filter(|row| row.contender == name).collect();
            let of = |value: &dyn Fn(&Row) -> Option<f64>| median(own.iter().filter_map(|row| value(row)));
            Median {
                contender: name.to_owned(),
                runs: own.len(),
                seconds: of(&|row| Some(row.seconds)).unwrap_or_default(),
                cpu: of(&|row| Some(row.user + row.system)).unwrap_or_default(),
                max_rss_kib: of(&|row| Some(row.max_rss_kib as f64)).unwrap_or_default(),
                sent_bytes: of(&|row| row.sent_bytes.map(|bytes| bytes as f64)),
                sent_blobs: of(&|row| row.sent_blobs.map(|blobs| blobs as f64)),
                fetched_bytes: of(&|row| row.fetched_bytes.map(|bytes| bytes as f64)),
                requests: of(&|row| row.requests.map(|requests| requests as f64)),
                registry_cpu: of(&|row| row.registry_cpu),
            }
        });
        Group { row: rows[0].clone(), contenders: contenders.collect() }
    };
    keys.into_iter().map(group).collect()
}

/// Returns the median; of an even number of values, the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 30.0].into_iter()), Some(3.0));
        assert_eq!(median([7.0].into_iter()), Some(7.0));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn rows_are_grouped_by_scenario() {
        let row = |scenario: &str, contender: &str, seconds| Row {
            scenario: Scenario::named(scenario).unwrap(),
            contender: contender.into(),
            seconds,
            ..Row::default()
        };
        let rows = [
            row("first push", "ours", 2.0),
            row("first push", "theirs", 9.0),
            row("reference", "ours", 1.0),
            row("first push", "ours", 1.0),
            row("first push", "ours", 50.0),
        ];
        let groups = groups(&rows);
        assert_eq!(groups.iter().map(Group::label).collect::<Vec<_>>(), ["first push", "reference"]);
        let ours = groups[0].of("ours").unwrap();
        assert_eq!((ours.seconds, ours.runs, ours.sent_bytes), (2.0, 3, None));
        assert_eq!(groups[0].of("theirs").unwrap().seconds, 9.0);
        assert!(groups[1].of("theirs").is_none());
    }
}
