//! `nixply completions`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Print what a shell needs to complete nixply's commands and options
///
/// For bash, in ~/.bashrc: source <(nixply completions bash). For zsh, into a file _nixply in a folder of $fpath. For fish, into
/// ~/.config/fish/completions/nixply.fish.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Known,
}

/// The shells that are tested.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    // In memory: a generator panics where it cannot write.
    let mut script = Vec::new();
    generate(shell, &mut crate::Command::command(), "nixply", &mut script);
    super::print(script)
}
