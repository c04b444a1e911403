//! The command line: `nixply build`, `plan`, `inspect`, `explain`, `diff`, `strategies`, `layout`, `serve`, `skopeo`, nix2container's own, and the builder door
//! of Nix derivations. Under the names `skopeo` and `nix2container` the program takes what those take.
//!
//! Standard output is data alone; everything else goes to standard error. Exit codes: 0 fine, 1 something for the user
//! to mend, 2 something of ours or the machine's, 130 interrupted, 141 whoever read the output has gone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a program does")]

mod commands;
mod expressions;
mod failure;
mod git;
mod interrupt;
mod nix;
mod report;
mod terminal;
mod transfer;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::commands::{
    build, builder, cache, completions, container, diff, explain, init, inspect, layout, man, n2c,
    nix_database, plan, reference, serve, skopeo, strategies,
};

/// OCI images from Nix closures, at the speed of the hardware.
#[derive(Parser)]
#[command(name = "nixply", version, max_term_width = 100)]
enum Command {
    Container(container::Args),
    Init(init::Args),
    Build(build::Args),
    Plan(plan::Args),
    Inspect(inspect::Args),
    Explain(explain::Args),
    Diff(diff::Args),
    Strategies(strategies::Args),
    Layout(layout::Args),
    Serve(serve::Args),
    Skopeo(skopeo::Args),
    Cache(cache::Args),
    NixDatabase(nix_database::Args),
    N2c(n2c::Args),
    Completions(completions::Args),
    Man(man::Args),
    Reference(reference::Args),
    Builder(builder::Args),
}

/// nix2container's command line.
#[derive(Parser)]
#[command(name = "nix2container", version, max_term_width = 100)]
struct Nix2container {
    #[command(flatten)]
    args: n2c::Args,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()?.to_str());
    let result = match name {
        Some("skopeo") => skopeo::pass(&arguments[1..]),
        Some("nix2container") => nix2container(),
        name => nixply(name.unwrap_or("nixply")),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}

fn nix2container() -> anyhow::Result<ExitCode> {
    match Nix2container::try_parse() {
        Ok(parsed) => Ok(n2c::run(&parsed.args)),
        // Without arguments it is fine.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => failure::usage(&error),
    }
}

fn nixply(program: &str) -> anyhow::Result<ExitCode> {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => return failure::usage(&error),
    };
    match command {
        Command::Container(args) => return container::run(args, program),
        Command::Init(args) => init::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Strategies(args) => strategies::run(&args),
        Command::Layout(args) => layout::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Skopeo(args) => return skopeo::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::NixDatabase(args) => nix_database::run(&args),
        Command::N2c(args) => return Ok(n2c::run(&args)),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Builder(args) => builder::run(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
