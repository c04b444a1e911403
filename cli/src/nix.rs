//! The user's Nix.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow};
use nixply_planning::Closure;

use crate::failure::{Hint, hinted};
use crate::{process, terminal};

/// Error message if Nix is not installed.
pub(crate) const MISSING: &str = "cannot run nix: install Nix, or add it to PATH";

/// Returns a command of `nix` with the required experimental features and these options, a list of names and values. Options
/// precede the subcommand, because Nix ignores some of them elsewhere, such as plugins.
pub(crate) fn command(verb: &str, options: &[String]) -> Command {
    let mut command = Command::new("nix");
    // The expressions get the container's name as an argument. In the user's shell, the variable has another meaning.
    command.env_remove("DEVENV_CONTAINER");
    command.args(["--extra-experimental-features", "nix-command flakes"]);
    for option in options.chunks(2) {
        command.arg("--option").args(option);
    }
    command.arg(verb);
    command
}

/// Quotes a string for the Nix language.
pub(crate) fn string(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    format!("\"{escaped}\"")
}

/// Quotes an attribute name for the Nix language, if necessary.
pub(crate) fn name(name: &str) -> String {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = first && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-'".contains(c));
    if plain { name.to_owned() } else { string(name) }
}

/// Returns the closure of `roots`, which must be in the store. `otherwise` is the hint if they are not.
pub(crate) fn closure<'r>(roots: impl Iterator<Item = &'r str>, otherwise: &str) -> Result<Closure> {
    let roots: Vec<&str> = roots.collect();
    if roots.is_empty() {
        return Ok(Closure::default());
    }
    let text = closure_text(roots.into_iter(), otherwise)?;
    Ok(Closure::read_of_one_store(&text, "the output of nix path-info")?)
}

/// Returns the closure like [`closure`], for at least one root, as Nix prints it.
pub(crate) fn closure_text<'r>(roots: impl Iterator<Item = &'r str>, otherwise: &str) -> Result<String> {
    let output = path_info_of(&roots.collect::<Vec<_>>())?;
    if !output.stderr.is_empty() {
        terminal::pass(output.stderr.strip_suffix(b"\n").unwrap_or(&output.stderr));
    }
    if !output.status.success() {
        let error = anyhow!("nix path-info failed with {}", output.status);
        return Err(hinted(error, otherwise));
    }
    text_of(output)
}

/// Returns the closure of `roots` if Nix is installed and knows it. Prints nothing on failure.
pub(crate) fn closure_if_known<'r>(roots: impl Iterator<Item = &'r str>) -> Option<Closure> {
    let roots: Vec<&str> = roots.collect();
    if roots.is_empty() {
        return None;
    }
    let output = path_info_of(&roots).ok().filter(|output| output.status.success())?;
    Closure::from_json(&text_of(output).ok()?).ok()
}

fn text_of(output: Output) -> Result<String> {
    String::from_utf8(output.stdout).context("nix path-info printed bytes that are not text")
}

fn path_info_of(roots: &[&str]) -> Result<Output> {
    // Nix would treat any other word as a flake reference and access the network.
    if let Some(root) = roots.iter().find(|root| !root.starts_with('/')) {
        return Err(anyhow!("{root:?} is not a store path"));
    }
    // Nix 2.33 and later require the format; older versions do not have the option.
    let output = path_info(&["--json-format", "1"], roots)?;
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("unrecognised flag") {
        return path_info(&[], roots);
    }
    Ok(output)
}

fn path_info(format: &[&str], roots: &[&str]) -> Result<Output> {
    let mut command = Command::new("nix");
    command.args(["--extra-experimental-features", "nix-command", "path-info", "--json", "--recursive"]);
    let output = process::captured(command.args(format).arg("--").args(roots).stdin(Stdio::null()));
    output.context("cannot run nix to get the closure").hint("install Nix, or pass --closure FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_for_nix() {
        assert_eq!(string(r#"a "b" \ ${c} $d"#), r#""a \"b\" \\ \${c} $d""#);
    }
}
