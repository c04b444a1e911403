//! Copies the Nix expressions that `nixply container` evaluates, for src/expressions.rs to embed. It removes comments, which
//! are a quarter of their size.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The directory of the expressions.
const NIX: &str = "../nix";

/// The embedded files and directories. A test in src/expressions.rs checks that they are the files that the expressions need.
const EMBEDDED: [&str; 16] = [
    "arguments.json",
    "arguments.nix",
    "build-image.nix",
    "build-index.nix",
    "build-layers.nix",
    "check.nix",
    "container-interface",
    "container-interface.nix",
    "derivation.nix",
    "evaluate.nix",
    "modules",
    "nix-database.nix",
    "nix2container",
    "project.nix",
    "push-script.nix",
    "requirements.nix",
];

fn main() -> io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("nix");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir(&out)?;
    for name in EMBEDDED {
        let from = Path::new(NIX).join(name);
        println!("cargo::rerun-if-changed={}", from.display());
        copy(&from, &out.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        let text = fs::read_to_string(from)?;
        let is_nix = from.extension().is_some_and(|extension| extension == "nix");
        return fs::write(to, if is_nix { without_comments(&text) } else { text });
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Removes the comments of a Nix expression and keeps its line breaks, so that error messages have the same line numbers.
fn without_comments(text: &str) -> String {
    /// The innermost syntax at a position.
    enum Context {
        /// An expression, with the number of its open braces.
        Code(usize),
        /// A string in double quotes.
        Quoted,
        /// A string in pairs of single quotes.
        Indented,
    }
    let mut kept = String::with_capacity(text.len());
    let mut contexts = vec![Context::Code(0)];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let starts = |any: &[&'static str]| any.iter().find(|token| rest.starts_with(**token)).copied();
        let after_name = kept.ends_with(|last: char| last.is_ascii_alphanumeric() || "_'-".contains(last));
        let mut length = first.len_utf8();
        match contexts.last_mut() {
            Some(Context::Code(braces)) => match first {
                '#' => {
                    rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                    kept.truncate(kept.trim_end_matches(' ').len());
                    continue;
                }
                '"' => contexts.push(Context::Quoted),
                // A name may end with single quotes.
                '\'' if rest.starts_with("''") && !after_name => {
                    length = 2;
                    contexts.push(Context::Indented);
                }
                '{' => *braces += 1,
                '}' if *braces > 0 => *braces -= 1,
                '}' => drop(contexts.pop()),
                _ => {}
            },
            Some(Context::Quoted) => match starts(&["\\", "$${", "${", "\""]) {
                Some("\\") => length += rest[1..].chars().next().map_or(0, char::len_utf8),
                Some("$${") => length = 3,
                Some("${") => {
                    length = 2;
                    contexts.push(Context::Code(0));
                }
                Some(_) => drop(contexts.pop()),
                None => {}
            },
            Some(Context::Indented) => match starts(&["'''", "''$", "''\\", "$${", "${", "''"]) {
                Some("${") => {
                    length = 2;
                    contexts.push(Context::Code(0));
                }
                Some("''") => {
                    length = 2;
                    contexts.pop();
                }
                Some(escape) => length = escape.len(),
                None => {}
            },
            None => {}
        }
        kept.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    kept
}
