//! A report as Markdown.

use super::{Cell, Part, Report, Table};

pub(super) fn write(report: &Report) -> String {
    let parts = report.parts.iter().map(|part| match part {
        Part::Headline(text) => format!("**{}**\n", plain(text)),
        Part::Facts(facts) => {
            let rows = facts.iter().map(|(name, value)| row([plain(name), plain(value)]));
            format!("| | |\n|---|---|\n{}", rows.collect::<String>())
        }
        Part::Table(table) if table.folded => {
            format!("<details><summary>{}</summary>\n\n{}\n</details>\n", html(&table.title), rows(table))
        }
        Part::Table(table) => format!("#### {}\n\n{}", plain(&table.title), rows(table)),
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn rows(table: &Table) -> String {
    let mut out = row(table.columns.iter().map(|column| plain(&column.title)));
    let rules = table.columns.iter().map(|column| if column.is_number { "--:|" } else { "---|" });
    out.push_str(&format!("|{}\n", rules.collect::<String>()));
    out.extend(table.shown().iter().map(|cells| row(cells.iter().map(cell))));
    if let Some(more) = table.more() {
        out.push_str(&format!("\n{}\n", plain(&more)));
    }
    out
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|text| if text.is_empty() { " ".into() } else { format!(" {text} ") });
    format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => plain(text),
        Cell::Name(name, depth) => format!("{}`{}`", "&emsp;".repeat(*depth), name.replace(['`', '|'], "")),
    }
}

/// Escapes a text so that Markdown shows it unchanged, on one line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
    out
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
