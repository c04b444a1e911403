//! Pages of the documentation that are generated, so that they say what is so.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{self, output, say};
use crate::nix::{self, Version};
use crate::packages::{self, Resolve::WhenMissing};
use crate::store::Store;

/// A page, and what makes its text.
struct Page {
    path: &'static str,
    make: fn() -> Result<String>,
}

/// Pages that lint checks.
const PAGES: [Page; 1] = [Page { path: "docs/reference/cli.md", make: commands }];

/// A page that takes a Nix: a whole-system test checks it.
const OPTIONS: Page = Page { path: "docs/reference/options.md", make: options };

/// Which pages to write, and whether to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Writes nothing; a page that is not what it should be is an error
    #[arg(long)]
    check: bool,
}

/// Writes the pages, or checks them.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    for page in PAGES.iter().chain([&OPTIONS]) {
        let (path, text) = (host::root().join(page.path), (page.make)()?);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        let failed = || format!("cannot write {}", page.path);
        path.parent().map_or(Ok(()), fs::create_dir_all).with_context(failed)?;
        fs::write(&path, text).with_context(failed)?;
        say(format!("{} is new", page.path));
    }
    Ok(())
}

/// An error where a page is not what would be written.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for page in &PAGES {
        let text = (page.make)()?;
        if fs::read_to_string(host::root().join(page.path)).ok() != Some(text) {
            stale.push(page.path);
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} is not what the program says of itself; write it with `cargo xtask docs` and commit it",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The program's own words.
fn commands() -> Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(host::root());
    command.args(["run", "--quiet", "--locked", "-p", "nixply", "--", "reference"]);
    // A variable that is empty counts as unset, and is not told of.
    for (name, _) in std::env::vars_os().filter(|(_, value)| value.is_empty()) {
        command.env_remove(name);
    }
    output(&mut command)
}

/// What the containers' modules say of their options.
fn options() -> Result<String> {
    let nix = nix::install(&Version::Bookworm)?;
    let lock = packages::set_up(WhenMissing)?;
    let store = Store::open(&nix, &lock)?;
    let expression = format!(
        "import {root}/nix/modules/reference.nix {{ pkgs = import {root}/nix/packages {{ \
         lock = builtins.fromJSON (builtins.readFile {}); }}; }}",
        packages::Lock::path().display(),
        root = host::root().display(),
    );
    output(store.command("nix", "").args(["eval", "--impure", "--raw", "--expr", &expression]))
}
