//! `nixply man`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;

/// Print nixply's man page, or write those of all commands (for packages)
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// A folder, for a page of each command: nixply.1, nixply-build.1, nixply-cache-stat.1, ...
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // It would be told of and has no page.
    let command = crate::Command::command().disable_help_subcommand(true);
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return super::print(page);
    };
    let failed = || format!("cannot write man pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(command, folder).with_context(failed)
}
