//! Fixtures of the system tests: a Nix with its own store, the plugin, the program, a registry and a Docker
//! daemon. `cargo xtask test` sets all of them up and passes them to the tests in environment variables.
//!
//! A test begins with [`harness!`]. If the machine lacks something that the test needs, the test is skipped
//! with a message. Under `NIXPLY_TEST_REQUIRED=1` (set by `cargo xtask test`) it fails instead, and the
//! message has the setup command.

#![allow(clippy::print_stderr, reason = "skipped tests print a message")]

pub mod engines;
pub mod modules;
mod nix;
mod private;
mod project;
mod run;
mod running;
pub mod skopeo;

pub use nix::{Nix, expression, system};
pub use private::{NOBODY, Private, tiny};
pub use project::Project;
pub use run::{Output, run, run_with_input};
pub use running::Running;

/// Returns the Nix under test, or ends the test: skipped, or failed if everything is required.
#[macro_export]
macro_rules! harness {
    () => {
        match $crate::Nix::from_environment() {
            Some(nix) => nix,
            None => return $crate::skip("this test needs a Nix that cargo xtask test sets up"),
        }
    };
}

/// Like [`harness!`], for tests of the plugin: they end with a message if this Nix supports no plugins.
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

/// Returns an environment variable that `cargo xtask test` sets, or ends the test as [`harness!`] does.
#[macro_export]
macro_rules! needs {
    ($variable:literal) => {
        match std::env::var($variable) {
            Ok(value) => value,
            Err(_) => {
                return $crate::skip(concat!("this test needs ", $variable, ", which cargo xtask test sets"))
            }
        }
    };
}

/// Ends a test that cannot run here: with a message, or with a failure if everything is required.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("NIXPLY_TEST_REQUIRED").is_none(),
        "{why}; tests must not be skipped here: run cargo xtask test, which installs the missing parts"
    );
    skipped(why);
}

/// Prints that a test, or a part of it, does not apply to this Nix or machine.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Ends a test of the plugin. Debian's static Nix supports no plugins; every other Nix must have one.
pub fn skip_plugin(nix: &Nix) {
    match nix.name.as_str() {
        "sid" => skipped("this Nix supports no plugins"),
        _ => skip("this test needs NIXPLY_TEST_PLUGIN, which cargo xtask test sets"),
    }
}
