//! The results of a study, as data and as a page.

mod chart;
mod page;
mod palette;
mod table;
mod text;
mod treemap;

use nixply_documents::wording;
use serde::Serialize;

pub use self::table::{Column, columns};
pub use self::text::{bytes, headline, measure};
use crate::compare::{Comparison, Expectation};

/// The version of the fields in docs/strategies-study.md. It stays the same when fields are added.
pub const VERSION: u32 = 1;

/// The results of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Whether the dependents of a changed package changed too.
    pub propagation: bool,
    /// Histories, in the given order.
    pub histories: Vec<Comparison>,
    /// Closures without a history, in the given order.
    pub closures: Vec<Expectation>,
}

impl Report {
    /// Returns the page: one HTML file without external resources.
    pub fn html(&self) -> String {
        // maud escapes markup. Browsers do not display most other control characters.
        let page = page::of(self);
        let lines: Vec<_> = page.split('\n').map(wording::visible).collect();
        lines.join("\n")
    }
}
