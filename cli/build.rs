//! The Nix expressions are part of the program (`src/expressions.rs`): a change of one is a change of it.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

fn main() {
    println!("cargo::rerun-if-changed=../nix");
}
