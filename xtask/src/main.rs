//! nixply's own chores: `cargo xtask demo` and `cargo xtask test` do all the set-up that they need.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a program does")]

mod bench;
mod build;
mod demo;
mod docs;
mod host;
mod links;
mod lint;
mod nix;
mod packages;
mod prose;
mod services;
mod source_set;
mod store;
mod test;

use anyhow::Context;
use clap::Parser;

/// nixply's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Builds a Python image with `nix build` and the plugin, pushes it to a registry and runs it in a container.
    Demo(demo::Args),
    /// Runs all tests, against real Nix, a real registry and real container engines.
    Test(test::Args),
    /// Builds the program and the plugin for one Nix, and says how to load it.
    Plugin {
        /// 2.8, 2.26, or the path of an installed Nix with headers
        #[arg(long, default_value = "2.8")]
        nix: nix::Version,
    },
    /// Measures nixply side by side with other ways to make an image, on closures of real packages.
    Bench(bench::Args),
    /// Runs a command for `bench` and writes what it took.
    #[command(hide = true)]
    Measured(bench::measure::Args),
    /// Writes the generated pages of the documentation.
    Docs(docs::Args),
    /// Checks formatting, lints, documentation, and that the flake's program can be built.
    Lint(lint::Args),
    /// Does one part of the set-up alone, as a test run would.
    #[command(hide = true, subcommand)]
    Setup(Part),
}

#[derive(clap::Subcommand)]
enum Part {
    /// Makes the files of the package set available and prints its lock file.
    Packages {
        /// Resolves anew, for today's versions.
        #[arg(long)]
        update: bool,
        /// Adds them to the store that the Nix with this prefix uses as the environment has it.
        #[arg(long, value_name = "PREFIX")]
        nix: Option<std::path::PathBuf>,
    },
    /// Makes a Nix available and prints its prefix.
    Nix {
        /// 2.8, 2.26, sid, or the path of an installed Nix.
        version: nix::Version,
    },
    /// Builds the flake's program and plugin from their own files alone, as `lint` does.
    SourceSet,
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Demo(args) => demo::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Measured(args) => bench::measure::run(&args),
        Chore::Docs(args) => docs::run(&args),
        Chore::Lint(args) => lint::check(&args),
        Chore::Plugin { nix } => plugin(&nix),
        Chore::Setup(Part::Packages { update, nix }) => {
            use packages::Resolve::{Anew, WhenMissing};
            let lock = packages::set_up(if update { Anew } else { WhenMissing })?;
            if let Some(prefix) = nix {
                let command = |name: &str| std::process::Command::new(prefix.join("bin").join(name));
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

/// Standard output is the plugin's path alone.
fn plugin(version: &nix::Version) -> anyhow::Result<()> {
    let nix = nix::install(version)?;
    let built = build::release(&nix)?;
    let plugin = built.plugin.with_context(|| {
        format!(
            "Nix {} takes no plugins: it is static, or has no headers; use nix/build-image.nix",
            nix.version
        )
    })?;
    host::say(format!("the program: {}", built.cli.display()));
    host::say(format!("any Nix {} loads the plugin with this line in nix.conf:", nix.version));
    host::say(format!("  plugin-files = {}", plugin.display()));
    println!("{}", plugin.display());
    Ok(())
}
