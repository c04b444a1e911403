//! What the whole-system tests stand on: a Nix with a store of its own, the plugin, the program, a registry and a Docker
//! daemon, all made by `cargo xtask test` and named to the tests by environment variables.
//!
//! A test begins with [`harness!`]. Where the machine lacks what it needs, it is skipped and says so; under
//! `NIXPLY_TEST_REQUIRED=1` (set by `cargo xtask test`) it fails instead, with the line that sets things up.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

pub mod engines;
mod nix;
mod private;
mod project;
mod run;
mod running;

pub use nix::{Nix, expression};
pub use private::{NOBODY, Private, tiny};
pub use project::Project;
pub use run::{Output, run, run_with_input};
pub use running::Running;

/// Gives the test's Nix, or ends the test: as skipped, or as failed where everything is required.
#[macro_export]
macro_rules! harness {
    () => {
        match $crate::Nix::from_environment() {
            Some(nix) => nix,
            None => return $crate::skip("it needs a Nix that cargo xtask test sets up"),
        }
    };
}

/// As [`harness!`], for tests of the plugin: they end, and say so, where a Nix takes none.
#[macro_export]
macro_rules! plugin_harness {
    () => {{
        let nix = $crate::harness!();
        if nix.plugin.is_none() {
            return $crate::skip_plugin(&nix);
        }
        nix
    }};
}

/// Gives an environment variable that `cargo xtask test` sets, or ends the test as [`harness!`] does.
#[macro_export]
macro_rules! needs {
    ($variable:literal) => {
        match std::env::var($variable) {
            Ok(value) => value,
            Err(_) => return $crate::skip(concat!("it needs ", $variable, ", which cargo xtask test sets")),
        }
    };
}

/// Ends a test that cannot run here: visibly, or as a failure where everything is required.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("NIXPLY_TEST_REQUIRED").is_none(),
        "{why}; nothing may be skipped here: run cargo xtask test, which installs what is missing"
    );
    skipped(why);
}

/// Says that a test, or a part of it, is not for this Nix or this machine.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Ends a test of the plugin: Debian's static Nix takes none, any other needs one.
pub fn skip_plugin(nix: &Nix) {
    match nix.name.as_str() {
        "sid" => skipped("this Nix takes no plugins"),
        _ => skip("it needs NIXPLY_TEST_PLUGIN, which cargo xtask test sets"),
    }
}
