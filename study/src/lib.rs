//! The study of layer strategies: a history of closures, release by release, is replayed through every strategy, and what each
//! moves is counted. Metadata only: no store path is read and no layer packed.
//!
//! `history` → `replay` → `summary` → `compare` → `report`. A plan for release t is made from releases up to t, and measured by what t moves.

pub mod compare;
pub mod error;
pub mod expected;
pub mod history;
pub mod metrics;
pub mod replay;
pub mod report;
mod rounding;
pub mod sizes;
pub mod summary;
