//! `nixply nix-database`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_planning::{Closure, Store};

use crate::arguments::{unless_empty, values};
use crate::documents;
use crate::terminal::warning;

/// Write a Nix store database into a root file system
///
/// The root file system must contain the store paths already.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Store paths as JSON, from `nix path-info --json --recursive` or a derivation's exportReferencesGraph. `-` reads standard
    /// input
    #[arg(value_name = "CLOSURE.json")]
    closure: PathBuf,

    /// Root of the file system; nix/var/nix/db and nix/var/nix/gcroots are created in it
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Path of the closure that is not in the store. Can be repeated
    #[arg(long, value_name = "PATH")]
    absent: Vec<String>,

    /// Store directory that store paths start with
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), default_value = "/nix/store", value_parser = values::store)]
    store_dir: Store,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let store = &args.store_dir;
    let closure = documents::closure(&args.closure, store)?;
    let absent = args.absent.iter().map(|path| store.check(path));
    let absent = absent.collect::<Result<Vec<_>, _>>().context("--absent")?;
    let paths = Closure::new(closure.iter().filter(|info| !absent.contains(&info.path)).cloned());
    let warnings = nixply_nix_database::write(&paths, store, &args.directory)?;
    warnings.iter().for_each(warning);
    Ok(())
}
