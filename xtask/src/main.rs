//! nixply's chores. `cargo xtask demo` and `cargo xtask test` do all the set-up that they need.

#![allow(clippy::print_stdout, reason = "some chores print a path or a page")]

mod bench;
mod demo;
mod docs;
mod links;
mod lint;
mod prose;
mod source_set;
mod test;

use std::process::Command;

use anyhow::Context;
use clap::Parser;
use xtask::{host, nix, packages, release};

/// nixply's chores
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Build a Python image with `nix build` and the plugin, push it to a registry and run it in a container
    Demo(demo::Args),
    /// Run all tests, with real Nix, a real registry and real container engines
    Test(test::Args),
    /// Build the program and the plugin for one Nix, and print how to load it
    Plugin {
        /// 2.8, 2.26, or the path of an installed Nix with headers
        #[arg(long, default_value = "2.8")]
        nix: nix::Version,
    },
    /// Measure nixply and other tools on closures of real packages
    Bench(bench::Args),
    /// Write the generated pages of the documentation
    Docs(docs::Args),
    /// Check formatting, lints, documentation, and that the flake's program can be built
    Lint(lint::Args),
    /// Do one part of the set-up of a test run
    #[command(hide = true, subcommand)]
    Setup(Part),
}

#[derive(clap::Subcommand)]
enum Part {
    /// Download the files of the tests' package set and print the path of its lock file
    Packages {
        /// Resolve the packages again, for the current versions
        #[arg(long)]
        update: bool,
        /// Add the files to the store that the Nix with this prefix uses, as the environment configures it
        #[arg(long, value_name = "PREFIX")]
        nix: Option<std::path::PathBuf>,
    },
    /// Install a Nix and print its prefix
    Nix {
        /// 2.8, 2.26, sid, or the path of an installed Nix
        version: nix::Version,
    },
    /// Build the flake's program and plugin from their source files alone, as `lint` does
    SourceSet,
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Demo(args) => demo::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Docs(args) => docs::run(&args),
        Chore::Lint(args) => lint::check(&args),
        Chore::Plugin { nix } => plugin(&nix),
        Chore::Setup(Part::Packages { update, nix }) => {
            use packages::Resolve::{Again, WhenMissing};
            let lock = packages::set_up(if update { Again } else { WhenMissing })?;
            if let Some(prefix) = nix {
                let command = |name: &str| Command::new(prefix.join("bin").join(name));
                packages::add_to_store(&lock, command)?;
            }
            println!("{}", packages::Lock::path().display());
            Ok(())
        }
        Chore::Setup(Part::SourceSet) => source_set::check(),
        Chore::Setup(Part::Nix { version }) => {
            let nix = nix::install(&version)?;
            println!("{}", nix.prefix.display());
            Ok(())
        }
    }
}

/// Builds the plugin. Standard output is only its path.
fn plugin(version: &nix::Version) -> anyhow::Result<()> {
    let nix = nix::install(version)?;
    let built = release::build(&nix)?;
    let plugin = built.plugin.with_context(|| {
        format!(
            "Nix {} cannot load plugins, because it is static or has no headers; use nix/build-image.nix",
            nix.version
        )
    })?;
    host::say(format!("program: {}", built.cli.display()));
    host::say(format!("any Nix {} loads the plugin with this line in nix.conf:", nix.version));
    host::say(format!("  plugin-files = {}", plugin.display()));
    println!("{}", plugin.display());
    Ok(())
}
