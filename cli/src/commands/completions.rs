//! `nixply completions`.

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

/// Print a shell script that completes nixply's commands and options
///
/// For bash, add to ~/.bashrc: source <(nixply completions bash). For zsh, write it to a file _nixply in a directory of $fpath. For
/// fish, write it to ~/.config/fish/completions/nixply.fish.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the shell
    #[arg(value_name = "SHELL")]
    shell: CompletionShell,
}

/// Tested shells.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// Returns the command without hidden subcommands, which generators would include.
fn shown(command: &Command) -> Command {
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let bare = Command::new("nixply").version(env!("CARGO_PKG_VERSION")).subcommands(visible);
    let bare = bare.args(command.get_arguments().cloned());
    match command.get_about() {
        Some(about) => bare.about(about.clone()),
        None => bare,
    }
}

/// Prints the script that completes the command `nixply`.
pub(crate) fn run(args: &Args, nixply: &Command) -> Result<()> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    // Generate the script in memory, because the generators panic on write errors.
    let mut script = Vec::new();
    generate(shell, &mut shown(nixply), "nixply", &mut script);
    crate::output::print(script)
}
