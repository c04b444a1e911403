//! The side-by-side: nixply and other ways to make an image of the same closures, measured in turns.

mod closures;

use anyhow::Result;

use self::closures::{Change, Closures, Size};
use crate::host::say;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Makes the closures and measures nothing
    #[arg(long)]
    make_closures: bool,

    /// small, medium, large or all
    #[arg(long, default_value = "all")]
    closure: String,

    /// How often each contender is measured
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// Measures.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sizes = match args.closure.as_str() {
        "all" => Size::ALL.to_vec(),
        name => vec![name.parse()?],
    };
    let mut closures = Closures::open()?;
    for size in sizes {
        let base = closures.make(size, Change::None)?;
        for number in 1..=args.runs {
            closures.make(size, Change::Leaf(number))?;
            closures.make(size, Change::Middle(number))?;
        }
        say(format!(
            "{}: {} paths, {} MB: {}",
            size.name(),
            base.infos.len(),
            base.bytes() / 1_000_000,
            base.file.display()
        ));
    }
    Ok(())
}
