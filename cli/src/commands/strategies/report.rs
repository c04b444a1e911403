//! What `nixply strategies` prints for a terminal.

use nixply_study::compare::{Comparison, StrategyResult, Expectation, ExpectedBytes};
use nixply_study::report::{self as study, Column};

use crate::report::{Cell, Report, Table};
use crate::terminal::{count, human};

pub(super) fn of(found: &study::Report) -> Report {
    let mut report = Report::default();
    for comparison in &found.histories {
        history(&mut report, comparison, found.propagation);
    }
    for expectation in &found.closures {
        closure(&mut report, expectation);
    }
    report
}

fn history(report: &mut Report, comparison: &Comparison, propagation: bool) {
    report.headline(format!("{}: {}", comparison.history, study::headline(comparison)));
    let releases = match comparison.releases.as_slice() {
        [first, .., last] => {
            format!("{} from {first} to {last}", count(comparison.releases.len(), "release"))
        }
        _ => count(comparison.releases.len(), "release"),
    };
    let change = match propagation {
        true => "a path with all that depends on it",
        false => "a path alone, without what depends on it",
    };
    let last = format!(
        "{}, {}, {}",
        count(comparison.images.len(), "image"),
        count(comparison.paths, "path"),
        human(comparison.bytes)
    );
    report.facts(vec![
        ("releases", format!("{releases}; the last {} measured", comparison.measured)),
        ("last one", last),
        ("changes", change.to_owned()),
        ("bytes", study::measure(comparison)),
        ("floor", "a layer for each path: no strategy moves less".to_owned()),
        ("*", "the best of its column".to_owned()),
    ]);
    let columns = study::columns(comparison);
    let titles: Vec<String> = columns.iter().map(|column| format!("#{}  ", column.title)).collect();
    let titles: Vec<&str> = ["strategy"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    for limit in &comparison.limits {
        let mut table = Table::new(format!("At most {} an image", count(limit.max_layers, "layer")), &titles);
        let floor = [&comparison.floor];
        for of in limit.strategies.iter().chain(floor) {
            table.row(row(of, &columns, &limit.strategies));
        }
        report.table(table);
    }
}

fn row(of: &StrategyResult, columns: &[Column], all: &[StrategyResult]) -> Vec<Cell> {
    let cells = columns.iter().map(|column| {
        let mark = if column.is_best(of, all) { '*' } else { ' ' };
        format!("{} {mark}", column.text(of)).into()
    });
    [of.strategy.clone().into()].into_iter().chain(cells).collect()
}

fn closure(report: &mut Report, expectation: &Expectation) {
    report.headline(format!(
        "{}: no history, but {} ({}); what a change of one is expected to move, with all that depends on it",
        expectation.closure,
        count(expectation.paths, "path"),
        human(expectation.bytes)
    ));
    report.facts(vec![
        ("structural", "what much depends on changes less often: by 1 / (1 + dependents)".to_owned()),
        ("even", "all paths change alike".to_owned()),
        ("leaves", "only what nothing depends on changes, or one path".to_owned()),
        ("bytes", "of uncompressed archives".to_owned()),
        ("floor", "a layer for each path: no strategy moves less".to_owned()),
    ]);
    for limit in &expectation.limits {
        let title = format!("At most {}", count(limit.max_layers, "layer"));
        let mut table = Table::new(title, &["strategy", "#structural", "#even", "#leaves"]);
        for of in limit.strategies.iter().chain([&expectation.floor]) {
            let ExpectedBytes { strategy, structural, even, leaves } = of;
            let [structural, even, leaves] = [structural, even, leaves].map(|bytes| human(*bytes).into());
            table.row([strategy.clone().into(), structural, even, leaves]);
        }
        report.table(table);
    }
}
