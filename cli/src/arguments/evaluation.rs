//! The flags of commands that evaluate a project.

use std::path::PathBuf;
use std::process::Command;

/// How to evaluate a project, and how much to print.
#[derive(clap::Args)]
#[command(next_help_heading = "Evaluation")]
pub(crate) struct Evaluation {
    /// Environment file [default: devenv.nix in this or a parent directory, together with a flake.nix next to it]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(crate) file: Option<PathBuf>,

    /// The nixpkgs to use: a directory or a flake reference [default: the one in flake.lock or devenv.lock, otherwise nixpkgs in
    /// NIX_PATH, otherwise the flake registry's]
    #[arg(long, value_name = "NIXPKGS", global = true)]
    pub(crate) nixpkgs: Option<String>,

    /// System of the image, such as aarch64-linux [default: this machine's]
    #[arg(long, value_name = "SYSTEM", global = true)]
    pub(crate) system: Option<String>,

    /// Do not let Nix download anything
    #[arg(long, global = true)]
    pub(crate) offline: bool,

    /// Set a Nix option
    #[arg(long, value_names = ["NAME", "VALUE"], num_args = 2, action = clap::ArgAction::Append, global = true)]
    pub(crate) option: Vec<String>,

    /// Show Nix's traces and build logs
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Suppress progress output; warnings and errors are still shown
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Evaluation {
    /// Adds the user's options to a Nix command.
    pub(crate) fn pass_on(&self, command: &mut Command) {
        if self.offline {
            command.arg("--offline");
        }
        if self.verbose {
            // With the plugin, evaluation also builds.
            command.args(["--show-trace", "--print-build-logs"]);
        }
        if self.quiet {
            command.arg("--quiet");
        }
    }

    /// Returns the nixpkgs that the user named. A directory becomes an absolute path.
    pub(crate) fn nixpkgs(&self) -> Option<String> {
        let given = self.nixpkgs.as_ref()?;
        let directory = std::fs::canonicalize(given).ok().filter(|_| !given.contains(':'));
        Some(directory.map_or_else(|| given.clone(), |directory| directory.display().to_string()))
    }
}
