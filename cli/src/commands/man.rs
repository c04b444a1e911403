//! `nixply man`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;

use crate::exit_codes;
use crate::output::{self, print};

/// Print nixply's man page, or write the pages of all commands (for packages)
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// Directory for the pages of all commands: nixply.1, nixply-build.1, nixply-cache-stat.1, ...
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the pages of the command `nixply`.
pub(crate) fn run(args: &Args, nixply: Command) -> Result<()> {
    // The page would list the help subcommand, which has no page.
    let mut command = nixply.disable_help_subcommand(true);
    let Some(directory) = &args.dir else {
        return print(Page::of(command)?.text);
    };
    fs::create_dir_all(directory)
        .with_context(|| output::unwritten(format_args!("man pages to {}", directory.display())))?;
    command.build();
    write_all(&command, directory)
}

/// Writes the pages of a command and its subcommands.
fn write_all(command: &Command, directory: &Path) -> Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_all(command, directory)?;
    }
    let page = Page::of(command.clone())?;
    output::write(Some(&directory.join(page.file)), &page.text)
}

/// A man page.
struct Page {
    file: String,
    text: Vec<u8>,
}

impl Page {
    fn of(command: Command) -> Result<Self> {
        // The text at the end of --help is a separate section of the man page.
        let page = Man::new(command.after_help(None::<&str>));
        let mut text = Vec::new();
        page.render(&mut text)?;
        text.extend(exit_codes::roff().bytes());
        Ok(Self { file: page.get_filename(), text })
    }
}
