//! The command line: `nixply build`, `plan`, `inspect`, `layout`, `serve`, nix2container's own, and the builder door of Nix
//! derivations.
//!
//! Standard output is data alone; everything else goes to standard error. Exit codes: 0 fine, 1 something for the user
//! to mend, 2 something of ours or the machine's, 130 interrupted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a program does")]

mod commands;
mod failure;
mod nix;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::{build, builder, cache, inspect, layout, n2c, plan, serve};

/// OCI images from Nix closures, at the speed of the hardware.
#[derive(Parser)]
#[command(name = "nixply", version, max_term_width = 100)]
enum Command {
    Build(build::Args),
    Plan(plan::Args),
    Inspect(inspect::Args),
    Layout(layout::Args),
    Serve(serve::Args),
    Cache(cache::Args),
    N2c(n2c::Args),
    Builder(builder::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Build(args) => build::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Layout(args) => layout::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::N2c(args) => n2c::run(&args),
        Command::Builder(args) => builder::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
