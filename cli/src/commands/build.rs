//! `nixply build`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::pack::Control;

use super::{Cache, Input, Machine};

/// Pack an image and write its spec (image.json)
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    machine: Machine,

    #[command(flatten)]
    cache: Cache,

    /// Where to write the spec; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.machine.store();
    let (request, closure) = args.input.read(&store)?;
    let stop = super::stop_flag()?;
    let (packer, cache) = (args.machine.packer(), args.cache.open());
    let built = request.build(&closure, &store, &packer, cache.as_ref(), &Control::new(&stop, &()))?;
    built.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    super::write_file(args.output.as_deref(), &built.json)
}
