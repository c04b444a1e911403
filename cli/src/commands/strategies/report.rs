//! The report of `nixply strategies` for a terminal.

use nixply_study::compare::{Comparison, Expectation, ExpectedBytes, StrategyResult};
use nixply_study::report as study;
use nixply_study::report::Column;

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
        true => "a path and all paths that depend on it",
        false => "a path alone, without paths that depend on it",
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
        ("floor", "one layer per path: no strategy transfers less".to_owned()),
        ("*", "the best in its column".to_owned()),
    ]);
    let columns = study::columns(comparison);
    let titles: Vec<String> = columns.iter().map(|column| format!("#{}  ", column.title)).collect();
    let titles: Vec<&str> = ["strategy"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    for limit in &comparison.limits {
        let mut table =
            Table::new(format!("At most {} per image", count(limit.max_layers, "layer")), &titles);
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
        "{}: a single closure of {} ({}); expected transfer when a path and all paths that depend on it change",
        expectation.closure,
        count(expectation.paths, "path"),
        human(expectation.bytes)
    ));
    report.facts(vec![
        ("structural", "paths with many dependents change less often, by 1 / (1 + dependents)".to_owned()),
        ("even", "all paths change equally often".to_owned()),
        ("leaves", "only paths without dependents change, or one path".to_owned()),
        ("bytes", "uncompressed archives".to_owned()),
        ("floor", "one layer per path: no strategy transfers less".to_owned()),
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
