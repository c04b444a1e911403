//! A report for a terminal.

use anstyle::Style;

use super::{Cell, Part, Report, Table};

pub(super) fn write(report: &Report, styled: bool) -> String {
    let bold = if styled { Style::new().bold() } else { Style::new() };
    let parts = report.parts.iter().map(|part| match part {
        Part::Headline(text) => format!("{bold}{text}{bold:#}\n"),
        Part::Facts(facts) => {
            let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            facts.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
        }
        Part::Table(table) => format!("{bold}{}{bold:#}\n\n{}", table.title, rows(table)),
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn rows(table: &Table) -> String {
    let heads = table.columns.iter().map(|column| column.title.clone()).collect::<Vec<_>>();
    let rows = table.shown().iter().map(|row| row.iter().map(cell).collect());
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((text, width), column) in row.iter().zip(&widths).zip(&table.columns) {
            line.push_str("  ");
            line.push_str(&match column.is_number {
                true => format!("{text:>width$}"),
                false => format!("{text:width$}"),
            });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if let Some(more) = table.more() {
        out.push_str(&format!("  {more}\n"));
    }
    out
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Name(name, depth) => format!("{}{name}", "  ".repeat(*depth)),
    }
}
