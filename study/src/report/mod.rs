//! What a study has found, as data and as a page.

mod chart;
mod page;
mod palette;
mod table;
mod text;
mod treemap;

use nixply_packer::wording;
use serde::Serialize;

pub use self::table::{Column, columns};
pub use self::text::{bytes, headline, measure};
use crate::compare::{Comparison, Expectation};

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
