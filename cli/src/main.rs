//! The command-line program. Under the names `skopeo` and `nix2container` it has the command lines of those programs.
//!
//! Standard output is only data, written by `output`. Everything else goes to standard error, through `terminal`.

mod arguments;
mod certificates;
mod commands;
mod credentials;
mod diagnosis;
mod documents;
mod engines;
mod exit_codes;
mod expressions;
mod failure;
mod git;
mod git_revisions;
mod limits;
mod memory;
mod nix;
mod output;
mod packer_hints;
mod process;
mod project;
mod pushing;
mod realise;
mod remote;
mod report;
mod serving;
mod skopeo;
mod temporary;
mod terminal;
mod transfer;
mod usage;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::commands::{
    base, build, builder, cache, completions, container, diff, explain, init, inspect, layout, man, n2c,
    nix_database, plan, pull, push, reference, schema, serve, strategies, validate,
};

/// Build OCI images from Nix closures
#[derive(Parser)]
#[command(name = "nixply", version, max_term_width = 100, after_help = exit_codes::help())]
enum Command {
    Container(container::Args),
    Init(init::Args),
    Build(build::Args),
    Plan(plan::Args),
    Inspect(inspect::Args),
    Explain(explain::Args),
    Diff(diff::Args),
    Strategies(strategies::Args),
    Push(push::Args),
    Pull(pull::Args),
    Base(base::Args),
    Validate(validate::Args),
    Layout(layout::Args),
    Schema(schema::Args),
    Serve(serve::Args),
    Skopeo(commands::skopeo::Args),
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
    output::guard();
    limits::run(program)
}

fn program() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()?.to_str());
    let result = match name {
        Some("skopeo") => commands::skopeo::pass(&arguments[1..]),
        Some("nix2container") => nix2container(),
        name => nixply(name.unwrap_or("nixply")),
    };
    result.unwrap_or_else(|error| diagnosis::report(&error))
}

fn nix2container() -> anyhow::Result<ExitCode> {
    let code = match Nix2container::try_parse() {
        Ok(parsed) => {
            n2c::run(&parsed.args).map_or_else(|error| diagnosis::report(&error), |()| ExitCode::SUCCESS)
        }
        // Help without arguments is not an error.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            diagnosis::usage(error, Nix2container::command())?;
            ExitCode::SUCCESS
        }
        Err(error) => diagnosis::usage(error, Nix2container::command())?,
    };
    // nix2container exits with 1 on every error.
    Ok(if code == ExitCode::SUCCESS { code } else { ExitCode::from(exit_codes::USER_ERROR) })
}

fn nixply(program: &str) -> anyhow::Result<ExitCode> {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => return diagnosis::usage(error, Command::command()),
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
        Command::Push(args) => push::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Base(args) => base::run(&args),
        Command::Validate(args) => return validate::run(&args),
        Command::Layout(args) => layout::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Skopeo(args) => return commands::skopeo::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::NixDatabase(args) => nix_database::run(&args),
        Command::N2c(args) => n2c::run(&args),
        Command::Completions(args) => completions::run(&args, &Command::command()),
        Command::Man(args) => man::run(&args, Command::command()),
        Command::Reference(args) => reference::run(&args, Command::command()),
        Command::Builder(args) => builder::run(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
