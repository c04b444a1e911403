//! `nixply completions`.

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

/// Print what a shell needs to complete nixply's commands and options
///
/// For bash, in ~/.bashrc: source <(nixply completions bash). For zsh, into a file _nixply in a folder of $fpath. For fish, into
/// ~/.config/fish/completions/nixply.fish.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: CompletionShell,
}

/// The shells that are tested.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// The same command without the subcommands that are for packages and derivations, which generators do not leave out.
fn shown(command: &Command) -> Command {
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let bare = Command::new("nixply").version(env!("CARGO_PKG_VERSION")).subcommands(visible);
    let bare = bare.args(command.get_arguments().cloned());
    match command.get_about() {
        Some(about) => bare.about(about.clone()),
        None => bare,
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    // In memory: a generator panics where it cannot write.
    let mut script = Vec::new();
    generate(shell, &mut shown(&crate::Command::command()), "nixply", &mut script);
    crate::output::print(script)
}
