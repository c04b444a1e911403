//! Compares layer strategies: replays a history of closures, release by release, with each strategy and
//! counts what each release moves. Uses metadata only: it reads no store path and packs no layer.
//!
//! `history` → `replay` → `summary` → `compare` → `report`. The plan of a release uses only that release and
//! earlier ones.

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
