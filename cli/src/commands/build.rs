//! `nixply build`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::pack::Control;

use super::{Input, Machine};

/// Pack an image and write its spec (image.json)
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    machine: Machine,

    /// Where to write the spec; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (request, closure) = args.input.read()?;
    let stop = super::stop_flag()?;
    let built =
        request.build(&closure, &args.machine.store(), &args.machine.packer(), &Control::new(&stop, &()))?;
    built.warnings().for_each(|warning| eprintln!("warning: {warning}"));
    super::write_file(args.output.as_deref(), &built.json)
}
