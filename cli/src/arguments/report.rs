//! The flags of commands that print a report.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anyhow::Result;
use serde::Serialize;

use super::values;
use crate::output::print;
use crate::report::{Format, Report};

/// Format and length of a report.
#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// Maximum number of rows per list; 0 shows all rows, and JSON always has all [default: 10, in Markdown 50]
    #[arg(long, value_name = "N", value_parser = values::count, allow_negative_numbers = true)]
    most: Option<usize>,
}

impl ReportArgs {
    /// Returns the maximum number of rows per list.
    pub(crate) fn most(&self) -> usize {
        match (self.most, self.format) {
            (Some(0), _) | (_, Format::Json) => usize::MAX,
            (Some(most), _) => most,
            (None, Format::Text) => 10,
            (None, Format::Markdown) => 50,
        }
    }

    /// Prints a report. The JSON form is `data` itself, after the version of its fields.
    pub(crate) fn print(&self, data: &impl Serialize, report: impl FnOnce() -> Report) -> Result<()> {
        print(match self.format {
            Format::Text => report().text(AutoStream::choice(&io::stdout()) != ColorChoice::Never),
            Format::Markdown => report().markdown(),
            Format::Json => {
                #[derive(Serialize)]
                struct Versioned<'d, D> {
                    version: u32,
                    #[serde(flatten)]
                    data: &'d D,
                }
                let versioned = Versioned { version: REPORT_VERSION, data };
                format!("{}\n", serde_json::to_string_pretty(&versioned)?)
            }
        })
    }
}

/// Version of the fields in docs/reports.md. New fields do not change it.
const REPORT_VERSION: u32 = 1;
