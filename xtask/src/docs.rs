//! Generated files: pages of the documentation, and the facts about arguments for Nix.

use std::fs;

use anyhow::{Context, Result, bail};
use xtask::host::{self, output, say};
use xtask::nix::{self, Version};
use xtask::packages::{self, Resolve::WhenMissing};
use xtask::store::Store;

/// A page, and the function that returns its text.
struct Page {
    path: &'static str,
    make: fn() -> Result<String>,
}

/// Pages that `lint` checks.
const PAGES: [Page; 4] = [
    Page { path: "docs/reference/cli.md", make: || program(&["reference", "commands"]) },
    Page { path: "docs/reference/request.schema.json", make: || program(&["schema"]) },
    Page { path: "docs/arguments.md", make: || program(&["reference", "arguments"]) },
    Page { path: "nix/arguments.json", make: || program(&["reference", "nix"]) },
];

/// A page whose generation needs Nix. A whole-system test checks it.
const OPTIONS: Page = Page { path: "docs/reference/options.md", make: options };

/// Options of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if a page is out of date, and write nothing
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
        say(format!("updated {}", page.path));
    }
    Ok(())
}

/// Fails if a page differs from its generated text.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for page in &PAGES {
        let text = (page.make)()?;
        if fs::read_to_string(host::root().join(page.path)).ok() != Some(text) {
            stale.push(page.path);
        }
    }
    if !stale.is_empty() {
        bail!("{} is out of date; run `cargo xtask docs` and commit the result", stale.join(", "));
    }
    Ok(())
}

/// Returns the output of the program.
fn program(words: &[&str]) -> Result<String> {
    let mut command = host::cargo();
    command.args(["run", "--quiet", "--locked", "-p", "nixply", "--"]).args(words);
    // An empty variable counts as unset, but the page would show it as the default.
    for (name, _) in std::env::vars_os().filter(|(_, value)| value.is_empty()) {
        command.env_remove(name);
    }
    output(&mut command)
}

/// Returns the reference of the containers' options.
fn options() -> Result<String> {
    let nix = nix::install(&Version::Bookworm)?;
    let lock = packages::set_up(WhenMissing)?;
    let store = Store::open(&nix, &lock)?;
    let expression = format!(
        "import {root}/docs/reference/options.nix {{ pkgs = import {root}/tests/packages {{ \
         lock = builtins.fromJSON (builtins.readFile {}); }}; }}",
        packages::Lock::path().display(),
        root = host::root().display(),
    );
    output(store.command("nix", "").args(["eval", "--impure", "--raw", "--expr", &expression]))
}
