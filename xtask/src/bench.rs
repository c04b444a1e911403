//! Starts the measurements of `benches/`, a separate program with more dependencies than the chores.

use std::ffi::OsString;

use anyhow::Result;
use xtask::host;

/// The options of the benchmark program.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    args: Vec<OsString>,
}

/// Builds and starts the program.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = host::cargo();
    command.args(["run", "--locked", "-p", "nixply-benches", "--bin", "side-by-side", "--"]).args(&args.args);
    host::run(&mut command)
}
