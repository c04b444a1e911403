//! `nixply builder`: the program of a derivation. What it builds is in its structured attributes: see [`BuilderInput`].

use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_packer::closure::Store;
use nixply_packer::pack::{Control, Packer};
use nixply_packer::request::{BuilderInput, BuilderJob};

use crate::terminal::warning;

/// Build what a derivation's structured attributes ask for (for the expressions in nix/)
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    let attrs = super::inputs::read_text(&attrs_file())
        .context("this command is for derivations with structured attributes")?;
    let input = BuilderInput::from_attrs(&attrs)?;
    let store_dir = std::env::var("NIX_STORE").context("NIX_STORE is not set: not in a derivation")?;
    let store = Store::at(store_dir);
    let warnings = match input.job(&store)? {
        BuilderJob::Packing(job) => {
            let cores = std::env::var("NIX_BUILD_CORES").ok().and_then(|cores| cores.parse().ok());
            let stop = super::stop_flag()?;
            job.run(&store, &Packer::new(cores.unwrap_or(0)), &Control::new(&stop, &()))?
        }
        BuilderJob::NixDatabase { output, paths } => nixply_nix_database::write(&paths, &store, &output)?,
    };
    warnings.iter().for_each(warning);
    Ok(())
}

/// Where the attributes are. Nix 2.8 sets the variable to the folder's name outside of the sandbox; the file itself lies in
/// the folder that the builder is started in, as in every version.
fn attrs_file() -> PathBuf {
    let named = std::env::var_os("NIX_ATTRS_JSON_FILE").map(PathBuf::from).filter(|file| file.exists());
    named.unwrap_or_else(|| ".attrs.json".into())
}
