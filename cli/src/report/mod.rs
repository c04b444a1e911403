//! Reports: headlines, facts and tables, printed as text for terminals or as Markdown.

mod markdown;
mod text;

use nixply_documents::wording;

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For a terminal
    Text,
    /// For programs, with the fields in docs/reports.md
    Json,
    /// For a comment on a pull request
    Markdown,
}

/// Parts of a report, from top to bottom.
#[derive(Debug, Default)]
pub(crate) struct Report {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Headline(String),
    Facts(Vec<(&'static str, String)>),
    Table(Table),
}

/// Rows under a title.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Maximum number of rows to show.
    most: usize,
    folded: bool,
}

#[derive(Debug, Clone)]
struct Column {
    title: String,
    is_number: bool,
}

/// Content of a table cell.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Text or a number.
    Text(String),
    /// Name of a store path, indented by this many levels.
    Name(String, usize),
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl Report {
    /// Adds the most important fact in one line.
    pub(crate) fn headline(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Headline(shown(text.into())));
    }

    /// Adds facts with their names.
    pub(crate) fn facts(&mut self, facts: Vec<(&'static str, String)>) {
        let facts = facts.into_iter().map(|(name, value)| (name, shown(value)));
        self.parts.push(Part::Facts(facts.collect()));
    }

    /// Adds a table, unless it is empty.
    pub(crate) fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.parts.push(Part::Table(table));
        }
    }

    /// Returns text for a terminal, with bold titles if `styled`.
    pub(crate) fn text(&self, styled: bool) -> String {
        text::write(self, styled)
    }

    /// Returns Markdown for GitHub, GitLab and Forgejo.
    pub(crate) fn markdown(&self) -> String {
        markdown::write(self)
    }
}

impl Table {
    /// Creates a table. Titles of numeric columns start with `#`.
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|title| match title.strip_prefix('#') {
            Some(title) => Column { title: title.to_owned(), is_number: true },
            None => Column { title: (*title).to_owned(), is_number: false },
        });
        let columns = columns.collect();
        Self { title: shown(title.into()), columns, rows: Vec::new(), most: usize::MAX, folded: false }
    }

    /// Limits the number of rows; a last line counts the others.
    pub(crate) fn at_most(mut self, rows: usize) -> Self {
        self.most = rows;
        self
    }

    /// Folds the table in formats that support it: only the title is visible until the reader opens it.
    pub(crate) fn folded(mut self) -> Self {
        self.folded = true;
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let cells = cells.into().into_iter().map(|cell| match cell {
            Cell::Text(text) => Cell::Text(shown(text)),
            Cell::Name(name, depth) => Cell::Name(shown(name), depth),
        });
        self.rows.push(cells.collect());
    }

    fn shown(&self) -> &[Vec<Cell>] {
        &self.rows[..self.most.min(self.rows.len())]
    }

    /// Returns the line about hidden rows.
    fn more(&self) -> Option<String> {
        let more = self.rows.len() - self.shown().len();
        (more > 0).then(|| format!("... and {more} more (--most 0 shows all)"))
    }
}

/// Escapes a text for one line of a terminal. All texts of a report go through this.
fn shown(text: String) -> String {
    wording::line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.headline("1.0 MB *more*");
        report.facts(vec![("size", "1 B".into()), ("largest", "a|b".into())]);
        let mut table = Table::new("paths", &["#size", "path", "why"]).at_most(2).folded();
        table.row(["1 B".into(), Cell::Name("a_b".into(), 0), "it_self <b>".into()]);
        table.row(["10 B".into(), Cell::Name("c".into(), 1), "".into()]);
        table.row(["".into(), Cell::Name("d".into(), 0), "".into()]);
        report.table(table);
        report.table(Table::new("nothing", &["a"]));
        report
    }

    #[test]
    fn text_is_aligned() {
        let expected = "1.0 MB *more*\n\nsize     1 B\nlargest  a|b\n\npaths\n\n  size  path  why\n   1 B  a_b   it_self <b>\n  \
                        10 B    c\n  ... and 1 more (--most 0 shows all)\n";
        assert_eq!(report().text(false), expected);
        assert!(report().text(true).starts_with("\u{1b}[1m1.0 MB *more*\u{1b}[0m\n"));
    }

    #[test]
    fn markdown_is_escaped_and_folded() {
        let expected = "**1.0 MB \\*more\\***\n\n| | |\n|---|---|\n| size | 1 B |\n| largest | a\\|b |\n\n\
                        <details><summary>paths</summary>\n\n| size | path | why |\n|--:|---|---|\n\
                        | 1 B | `a_b` | it\\_self &lt;b> |\n| 10 B | &emsp;`c` | |\n\n... and 1 more (--most 0 shows all)\n\n\
                        </details>\n";
        assert_eq!(report().markdown(), expected);
    }
}
