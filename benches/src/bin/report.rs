//! Prints the tables of a side-by-side's results, and updates the documentation's tables and charts:
//! `cargo run -p nixply-benches --bin report -- --docs benches/results/DATE-side-by-side.csv`.

#![allow(clippy::print_stdout, reason = "printing is what a program does")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use nixply_benches::{report, rows};

/// Print the tables of results
#[derive(Parser)]
struct Args {
    /// The results; facts about the machine are in a .txt file next to them
    csv: PathBuf,

    /// Also update docs/benchmarks.md and docs/charts
    #[arg(long)]
    docs: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let read =
        |file: &Path| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    let rows = rows::read(&read(&args.csv)?).with_context(|| args.csv.display().to_string())?;
    print!("{}", report::text(&rows));
    if args.docs {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        report::write_docs(&rows, &read(&args.csv.with_extension("txt"))?, &docs)?;
    }
    Ok(())
}
