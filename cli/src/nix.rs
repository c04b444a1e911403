//! Asks the user's Nix.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nixply_packer::closure::Closure;

/// The closure of `roots`, which must be in the store.
pub(crate) fn closure<'r>(roots: impl Iterator<Item = &'r str>) -> Result<Closure> {
    let roots: Vec<&str> = roots.collect();
    if roots.is_empty() {
        return Ok(Closure::default());
    }
    let mut command = Command::new("nix");
    command.args([
        "--extra-experimental-features",
        "nix-command",
        "path-info",
        "--json",
        "--recursive",
        "--",
    ]);
    let output = command.args(&roots).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output =
        output.context("cannot run nix, which knows the closure: install it, or give --closure FILE")?;
    if !output.status.success() {
        bail!("nix path-info ended with {}; the store paths of the request must be built", output.status);
    }
    let text =
        String::from_utf8(output.stdout).context("nix path-info printed something that is not text")?;
    Ok(Closure::from_json(&text)?)
}
