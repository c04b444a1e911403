//! Measurements that take too long for tests: the side-by-side with other tools, and its rows, tables and charts.

#![allow(clippy::print_stdout, reason = "the side-by-side prints its tables")]

pub mod report;
pub mod rows;
pub mod scenario;
pub mod side_by_side;
pub mod summary;

mod charts;
