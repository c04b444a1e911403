//! Results for people: a table for the terminal, tables and charts for the documentation.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::charts;
use crate::rows::Row;
use crate::scenario::Work;
use crate::summary::{Group, Median, groups};

/// The contender that ratios compare with.
const OURS: &str = "nixply";

/// Lines before and after the documentation's tables.
const MARKERS: (&str, &str) = ("<!-- measured: begin -->\n", "<!-- measured: end -->\n");

/// Returns the medians as a table for the terminal.
pub fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut closure = "";
    let groups = groups(rows);
    for group in &groups {
        if group.row.closure != closure {
            closure = &group.row.closure;
            let _ = writeln!(out, "\n{}", describe(&group.row));
            let _ = writeln!(
                out,
                "{:<56} {:<28} {:>9} {:>9} {:>8} {:>9} {:>6} {:>9} {:>8} {:>10} {:>8}",
                "scenario",
                "contender",
                "wall s",
                "CPU s",
                "RSS MB",
                "sent MB",
                "blobs",
                "fetch MB",
                "requests",
                "registry s",
                "x nixply"
            );
        }
        for (at, median) in group.contenders.iter().enumerate() {
            let label = if at == 0 { group.label() } else { String::new() };
            let sent = median.sent_bytes.map(|bytes| format!("{:.1}", bytes / 1e6)).unwrap_or_default();
            let blobs = median.sent_blobs.map(|blobs| format!("{blobs:.0}")).unwrap_or_default();
            let fetched = median.fetched_bytes.map(|bytes| format!("{:.1}", bytes / 1e6)).unwrap_or_default();
            let requests = median.requests.map(|requests| format!("{requests:.0}")).unwrap_or_default();
            let registry = median.registry_cpu.map(|cpu| format!("{cpu:.2}")).unwrap_or_default();
            let ratio = ratio(group, median).map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "{label:<56} {:<28} {:>9.3} {:>9.3} {:>8.0} {sent:>9} {blobs:>6} {fetched:>9} {requests:>8} {registry:>10} {ratio:>8}",
                median.contender,
                median.seconds,
                median.cpu,
                median.max_rss_kib * 1024.0 / 1e6,
            );
        }
    }
    out
}

/// Writes the charts to `docs/charts` and the tables to `docs/benchmarks.md`, between its markers.
pub fn write_docs(rows: &[Row], facts: &str, docs: &Path) -> Result<()> {
    let groups = groups(rows);
    let directory = docs.join("charts");
    fs::create_dir_all(&directory)?;
    for (name, chart) in
        [("side-by-side", charts::bars(&groups)?), ("changed-bytes", charts::changed(&groups)?)]
    {
        let file = directory.join(format!("{name}.svg"));
        if let Some(svg) = chart {
            fs::write(&file, svg).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let text =
        replace_between(&text, &markdown(&groups, facts)).with_context(|| page.display().to_string())?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn replace_between(text: &str, new: &str) -> Result<String> {
    let parts = text.split_once(MARKERS.0).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(MARKERS.1)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("the page lacks the markers {} and {}", MARKERS.0.trim(), MARKERS.1.trim())
    };
    Ok(format!("{before}{}{new}{}{after}", MARKERS.0, MARKERS.1))
}

/// Returns the documentation's tables.
fn markdown(groups: &[Group], facts: &str) -> String {
    let mut out = format!("```text\n{}\n```\n", facts.trim());
    let mut closures: Vec<&str> = groups.iter().map(|group| group.row.closure.as_str()).collect();
    closures.dedup();
    closures.sort_by_key(|name| {
        std::cmp::Reverse(groups.iter().find(|g| g.row.closure == *name).map(|g| g.row.bytes))
    });
    closures.dedup();
    for closure in closures {
        let of = |kind: fn(&Group) -> bool| -> Vec<&Group> {
            groups.iter().filter(|group| group.row.closure == closure && kind(group)).collect()
        };
        let contest = of(|group| group.row.scenario.is_contest());
        let all = groups.iter().find(|group| group.row.closure == closure);
        let _ = writeln!(out, "\n### {}", all.map(|group| describe(&group.row)).unwrap_or_default());
        table(&mut out, "Wall-clock seconds (times nixply's)", &contest, &|group, median| {
            Some(match ratio(group, median) {
                Some(ratio) if median.contender != OURS => {
                    format!("{} ({ratio:.1}×)", seconds(median.seconds))
                }
                _ => seconds(median.seconds),
            })
        });
        table(&mut out, "CPU seconds", &contest, &|_, median| Some(seconds(median.cpu)));
        table(&mut out, "MB sent to the registry (blobs)", &contest, &|_, median| {
            Some(format!("{:.1} ({:.0})", median.sent_bytes? / 1e6, median.sent_blobs?))
        });
        table(&mut out, "MB fetched from the registry", &contest, &|_, median| {
            median.fetched_bytes.filter(|bytes| *bytes > 0.0).map(|bytes| format!("{:.1}", bytes / 1e6))
        });
        table(&mut out, "Requests to the registry", &contest, &|_, median| {
            Some(format!("{:.0}", median.requests?))
        });
        table(&mut out, "CPU seconds of the registry", &contest, &|_, median| {
            median.registry_cpu.map(seconds)
        });
        table(&mut out, "MB of memory, largest process", &contest, &|_, median| {
            Some(format!("{:.0}", median.max_rss_kib * 1024.0 / 1e6))
        });
        let references = of(is_reference);
        if !references.is_empty() {
            let _ = writeln!(out, "\n| For reference | seconds | CPU seconds | MB/s |\n|---|--:|--:|--:|");
        }
        for group in references {
            for median in &group.contenders {
                let speed = group.row.bytes as f64 / 1e6 / median.seconds;
                let name = median.contender.replace('|', "\\|");
                let (wall, cpu) = (seconds(median.seconds), seconds(median.cpu));
                let _ = writeln!(out, "| `{name}` | {wall} | {cpu} | {speed:.0} |");
            }
        }
    }
    out + &changed_table(groups)
}

fn is_reference(group: &Group) -> bool {
    group.row.scenario.work == Work::Reference
}

/// Writes a table of scenarios by contenders, without empty rows.
fn table(out: &mut String, title: &str, groups: &[&Group], cell: &dyn Fn(&Group, &Median) -> Option<String>) {
    let mut names: Vec<&str> = Vec::new();
    for median in groups.iter().flat_map(|group| &group.contenders) {
        if !names.contains(&median.contender.as_str()) {
            names.push(&median.contender);
        }
    }
    let row = |group: &&&Group| -> Option<String> {
        let cells: Vec<Option<String>> =
            names.iter().map(|name| group.of(name).and_then(|median| cell(group, median))).collect();
        cells.iter().any(Option::is_some).then(|| {
            let cells: Vec<String> = cells.into_iter().map(Option::unwrap_or_default).collect();
            format!("| {} | {} |\n", group.label(), cells.join(" | "))
        })
    };
    let rows: Vec<String> = groups.iter().filter_map(|group| row(&group)).collect();
    if !rows.is_empty() {
        let _ = write!(out, "\n| {title} | {} |\n|---|{}\n", names.join(" | "), "--:|".repeat(names.len()));
        out.extend(rows);
    }
}

fn changed_table(groups: &[Group]) -> String {
    let changed: Vec<&Group> = groups.iter().filter(|group| group.row.changed_mib.is_some()).collect();
    let (mut closures, mut sizes) = (Vec::new(), Vec::new());
    for group in &changed {
        if !closures.contains(&group.row.closure) {
            closures.push(group.row.closure.clone());
        }
        if !sizes.contains(&group.row.changed_mib) {
            sizes.push(group.row.changed_mib);
        }
    }
    if closures.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\n### Time against changed bytes\n\n| MiB changed | {} |\n|--:|{}\n",
        closures.join(" | "),
        "--:|".repeat(closures.len())
    );
    for size in sizes {
        let cell = |closure: &String| {
            let group =
                changed.iter().find(|group| group.row.changed_mib == size && group.row.closure == *closure);
            group.and_then(|group| group.of(OURS)).map(|median| seconds(median.seconds)).unwrap_or_default()
        };
        let cells: Vec<String> = closures.iter().map(cell).collect();
        let _ = writeln!(out, "| {} | {} |", size.unwrap_or_default(), cells.join(" | "));
    }
    out
}

fn describe(row: &Row) -> String {
    format!(
        "{} closure: {} store paths, {} files, {:.2} GB",
        row.closure,
        row.paths,
        row.files,
        row.bytes as f64 / 1e9
    )
}

fn ratio(group: &Group, median: &Median) -> Option<f64> {
    let ours = group.of(OURS)?.seconds;
    (ours > 0.0).then(|| median.seconds / ours)
}

/// Formats seconds with three digits, fewer below one second.
fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 9.995 => format!("{seconds:.2}"),
        seconds if seconds < 99.95 => format!("{seconds:.1}"),
        seconds => format!("{seconds:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn rows() -> Vec<Row> {
        let row = |scenario: &str, contender: &str, seconds| Row {
            closure: "small".into(),
            scenario: Scenario::named(scenario).unwrap(),
            codec: "zstd:1".into(),
            contender: contender.into(),
            seconds,
            sent_bytes: Some(2_000_000),
            sent_blobs: Some(2),
            ..Row::default()
        };
        vec![row("first push", OURS, 2.0), row("first push", "other", 5.0), row("no change", "other", 7.0)]
    }

    #[test]
    fn tables_have_ratios_for_comparable_rows() {
        let table = markdown(&groups(&rows()), "cpu: x");
        assert!(table.contains("| first push, zstd:1 | 2.00 | 5.00 (2.5×) |\n"), "{table}");
        assert!(table.contains("| no change, zstd:1 |  | 7.00 |\n"), "{table}");
        assert!(table.contains("| first push, zstd:1 | 2.0 (2) | 2.0 (2) |\n"), "{table}");
        assert!(text(&rows()).contains("2.50"));
    }

    #[test]
    fn text_outside_the_markers_is_kept() {
        let page = format!("a\n{}old\n{}b\n", MARKERS.0, MARKERS.1);
        assert_eq!(replace_between(&page, "new\n").unwrap(), page.replace("old", "new"));
        assert!(replace_between("a\n", "new\n").is_err());
    }

    #[test]
    fn seconds_have_three_digits() {
        assert_eq!([0.034, 1.0, 9.999, 43.98, 123.4].map(seconds), ["0.03", "1.00", "10.0", "44.0", "123"]);
    }
}
