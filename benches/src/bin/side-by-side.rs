//! Measures nixply and other tools on the same closures: the program behind `cargo xtask bench`.

use clap::{Parser, Subcommand};
use nixply_benches::side_by_side::{self, measure};

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,

    #[command(flatten)]
    args: side_by_side::Args,
}

#[derive(Subcommand)]
enum Part {
    /// Run a command and write the resources that it used
    #[command(hide = true)]
    Measured(measure::Args),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.part {
        Some(Part::Measured(args)) => measure::run(args),
        None => side_by_side::run(&cli.args),
    }
}
