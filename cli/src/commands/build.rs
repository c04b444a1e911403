//! `nixply build`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::cache::Cache;
use nixply_packer::pack::Control;

use super::cache::CacheFlags;
use super::layering::Layering;
use super::{Input, Machine, Talk, lock_file};
use crate::terminal::{Packing, warning};

/// Pack an image and write its spec (image.json)
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    layering: Layering,

    /// Place paths as this lock file says, instead of the request's own: `nixply plan --lock FILE --update` makes it
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    #[command(flatten)]
    machine: Machine,

    /// Where to write the spec; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    talk: Talk,

    #[command(flatten)]
    cache: CacheFlags,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.machine.store();
    let (mut request, closure) = args.input.read(&store)?;
    args.layering.apply(&mut request);
    let plan = match &args.lock {
        None => request.plan(&closure, &store),
        Some(file) => request.plan_by(&lock_file::existing(file)?, &closure, &store),
    };
    let plan = args.input.within(plan)?;
    let stop = super::stop_flag()?;
    let cache = args.cache.open();
    let packer = args.machine.packer(cache.clone());
    let packing = Packing::new(args.talk.quiet);
    let built = request.pack(plan, &closure, &store, &packer, &Control::new(&stop, &packing))?;
    packing.clear();
    cache.iter().for_each(Cache::trim);
    built.warnings.iter().for_each(warning);
    super::output::write(args.output.as_deref(), &built.json)?;
    packing.finish(built.spec.layers.len());
    Ok(())
}
