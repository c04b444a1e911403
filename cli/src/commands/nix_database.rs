//! `nixply nix-database`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_packer::closure::{Closure, Store};

use crate::terminal::warning;

/// Write the database of a Nix store, for a root file system whose store paths come from elsewhere
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's paths as JSON (nix path-info --json --recursive, or a derivation's exportReferencesGraph); `-` reads
    /// standard input
    #[arg(value_name = "CLOSURE.json")]
    closure: PathBuf,

    /// The root: nix/var/nix/db and nix/var/nix/gcroots are made below it
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// A path of the closure that the store does not have
    #[arg(long, value_name = "PATH")]
    absent: Vec<String>,

    /// The store directory as store paths name it
    #[arg(long, value_name = "DIR", env = super::unless_empty("NIX_STORE_DIR"), default_value = "/nix/store", value_parser = super::values::store)]
    store_dir: Store,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = &args.store_dir;
    let closure = super::inputs::closure(&args.closure, store)?;
    let absent = args.absent.iter().map(|path| store.check(path));
    let absent = absent.collect::<Result<Vec<_>, _>>().context("--absent")?;
    let paths = Closure::new(closure.iter().filter(|info| !absent.contains(&info.path)).cloned());
    let warnings = nixply_nix_database::write(&paths, store, &args.folder)?;
    warnings.iter().for_each(warning);
    Ok(())
}
