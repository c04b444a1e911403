//! Copies the Nix expressions that are part of the program (`src/expressions.rs`), and rebuilds the program when they change.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Directory of the expressions.
const EXPRESSIONS: &str = "../nix";

/// The tests' package set, which no program needs.
const LEFT_OUT: &str = "packages";

fn main() -> io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("nix");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir(&out)?;
    // The directory itself changes when files are added.
    println!("cargo::rerun-if-changed={EXPRESSIONS}");
    for entry in fs::read_dir(EXPRESSIONS)? {
        let entry = entry?;
        if entry.file_name() != LEFT_OUT {
            copy(&entry.path(), &out.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
