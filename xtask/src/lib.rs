//! Set-up for nixply's chores, tests and benchmarks: Debian packages, Nix versions, the tests' package set, servers, stores,
//! and release builds.
//!
//! The library depends on no other crate of the workspace, so that `cargo xtask` starts quickly.

#![allow(clippy::print_stderr, reason = "chores print their progress")]

pub mod host;
pub mod nix;
pub mod packages;
pub mod release;
pub mod services;
pub mod store;
