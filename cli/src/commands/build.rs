//! `nixply build`.

use std::path::PathBuf;

use anyhow::Result;
use nixply_packer::{Cache, Control, Packing};

use crate::arguments::{
    CacheArgs, CacheFromArgs, LayeringArgs, Learned, RegistryArgs, RequestArgs, StoreArgs, Verbosity,
};
use crate::documents::lock_file;
use crate::output;
use crate::process::stop_flag;
use crate::terminal::{PackingProgress, warning};

/// Pack an image and write its spec (image.json)
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: RequestArgs,

    #[command(flatten)]
    layering: LayeringArgs,

    /// Lock file that assigns paths to layers (overrides the request's `lock`); `nixply plan --lock FILE --update` creates it
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArgs,

    /// File for the spec [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// File for the description: the spec's JSON, in which Nix finds no references to store paths
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    cache: CacheArgs,

    #[command(flatten)]
    cache_from: CacheFromArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = args.store.store();
    let (mut request, closure) = args.request.read(&store)?;
    args.layering.apply(&mut request);
    let plan = match &args.lock {
        None => request.plan(&closure, &store),
        Some(file) => request.plan_by(&lock_file::existing(file)?, &closure, &store),
    };
    let plan = args.request.with_document_name(plan)?;
    let stop = stop_flag()?;
    let cache = args.cache.open();
    let learned = match &args.cache_from.cache_from[..] {
        [first, ..] => {
            args.cache_from.learn(&args.registry.client(first)?.stopping_at(&stop), cache.as_ref())?
        }
        [] => Learned::default(),
    };
    let packer = args.store.packer(cache.clone()).with_segments(learned.sources());
    let progress = PackingProgress::new(args.verbosity.quiet);
    let built =
        request.pack(plan, &closure, &Packing::new(&store, &packer, &Control::new(&stop, &progress)))?;
    progress.clear();
    cache.iter().for_each(Cache::trim);
    learned.report(args.verbosity.quiet);
    built.warnings.iter().for_each(warning);
    if let Some(file) = &args.description {
        output::write(Some(file), &built.description())?;
    }
    output::write(args.output.as_deref(), &built.json)?;
    progress.finish(built.spec.layers.len());
    Ok(())
}
