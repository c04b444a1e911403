//! What becomes of measurements: rows of CSV, tables, charts.

pub mod report;
pub mod rows;
pub mod summary;

mod charts;
