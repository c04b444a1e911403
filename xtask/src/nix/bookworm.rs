//! Nix 2.8: Debian bookworm's package. It has shared libraries and loads plugins, but has no headers, which come from the
//! source package of the same version.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::Archive;
use super::prefix::{Nix, PROGRAMS, Prefix};
use crate::host::{apt_install, output, say};

/// Number of this file's recipe. Raise it with each change, so that older results are rebuilt.
const RECIPE: &str = "1";

/// Nix, and the libraries whose headers its headers include.
const PACKAGES: [&str; 4] = ["nix-bin", "libboost-dev", "libgc-dev", "nlohmann-json3-dev"];

/// Source directories, each with the directory below `include/nix` into which upstream's `local.mk` files install its headers.
const HEADERS: [(&str, &str); 9] = [
    ("src/libutil", ""),
    ("src/libstore", ""),
    ("src/libfetchers", ""),
    ("src/libexpr", ""),
    ("src/libcmd", ""),
    ("src/libmain", ""),
    ("src/libexpr/flake", "flake"),
    ("src/libstore/builtins", "builtins"),
    ("src/libstore/build", "build"),
];

pub(super) fn install() -> Result<Nix> {
    apt_install(&PACKAGES)?;
    let prefix = Prefix::of("2.8", RECIPE)?;
    prefix.ready().map_or_else(|| prefix.make(fill), Ok)
}

fn fill(work: &Path, prefix: &Path) -> Result<()> {
    let version = output(Command::new("dpkg-query").args(["-W", "-f", "${source:Version}", "nix-bin"]))?;
    let source = Archive::open(&work.join("apt"), &["deb-src"], "bookworm")?.source("nix", Some(&version))?;

    say("copying the headers and linking the programs of Nix 2.8");
    let include = prefix.join("include/nix");
    for (from, to) in HEADERS {
        copy_headers(&source.join(from), &include.join(to))?;
    }
    fs::create_dir(prefix.join("bin"))?;
    for program in PROGRAMS {
        symlink(Path::new("/usr/bin").join(program), prefix.join("bin").join(program))?;
    }
    Ok(())
}

fn copy_headers(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "hh") {
            let name = file.file_name().expect("an entry of a directory has a name");
            fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}
