//! Checks of the source: formatting of Rust and C++, lints, documentation, and the files that a build of the flake needs.

use std::process::Command;

use anyhow::Result;
use xtask::host::{self, cargo, output, run, say};

use crate::{docs, links, prose, source_set};

/// Parts of the lint.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check only links, and the phrasing of comments, documentation and help; list each line with a marker
    #[arg(long)]
    prose: bool,
}

/// Runs all checks up to the first that fails.
pub(crate) fn check(args: &Args) -> Result<()> {
    if args.prose {
        links::check()?;
        return prose::check(true);
    }
    say("rustfmt");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("clang-format");
    // The sources are formatted by the version in Debian bookworm; other versions format differently.
    host::apt_install(&["clang-format", "git"])?;
    let files = output(Command::new("git").current_dir(host::root()).args(["ls-files", "*.cc", "*.hh"]))?;
    let mut format = Command::new("clang-format");
    run(format.current_dir(host::root()).args(["--dry-run", "--Werror"]).args(files.lines()))?;
    say("clippy");
    host::apt_install(&["g++", "binutils"])?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    say("documentation");
    let mut doc = cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?;
    docs::check()?;
    links::check()?;
    say("phrasing");
    prose::check(false)?;
    source_set::check()
}
