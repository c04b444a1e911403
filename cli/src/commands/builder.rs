//! `nixply builder`: the builder of a derivation, whose structured attributes define the build; see [`BuilderInput`].

use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_packer::request::{BuilderInput, BuilderJob};
use nixply_packer::{Control, Packer, Packing};
use nixply_planning::Store;

use crate::documents::read_text;
use crate::process::stop_flag;
use crate::terminal::warning;

/// Build the output of a derivation from its structured attributes (for the expressions in nix/)
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    let attrs = read_text(&attrs_file())
        .context("nixply builder runs only in derivations with structured attributes")?;
    let input = BuilderInput::from_attrs(&attrs)?;
    let store_dir = std::env::var("NIX_STORE")
        .context("NIX_STORE is not set: nixply builder runs only in derivations")?;
    let store = Store::at(store_dir);
    let warnings = match input.job(&store)? {
        BuilderJob::Packing(job) => {
            let cores = std::env::var("NIX_BUILD_CORES").ok().and_then(|cores| cores.parse().ok());
            let stop = stop_flag()?;
            job.run(&Packing::new(&store, &Packer::new(cores.unwrap_or(0)), &Control::new(&stop, &())))?
        }
        BuilderJob::NixDatabase { output, paths } => nixply_nix_database::write(&paths, &store, &output)?,
    };
    warnings.iter().for_each(warning);
    Ok(())
}

/// Returns the path of the attributes. Nix 2.8 sets the variable to a path outside the sandbox. The file itself is in the builder's
/// working directory in every version.
fn attrs_file() -> PathBuf {
    let named = std::env::var_os("NIX_ATTRS_JSON_FILE").map(PathBuf::from).filter(|file| file.exists());
    named.unwrap_or_else(|| ".attrs.json".into())
}
