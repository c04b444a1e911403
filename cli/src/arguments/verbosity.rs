//! `--quiet`.

/// Amount of output to standard error.
#[derive(clap::Args)]
pub(crate) struct Verbosity {
    /// Suppress progress output; warnings and errors are still shown
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
