//! Finds, unpacks or builds the Nix versions of the tests and the demo, each in one prefix.
//!
//! The plugin's build script and the tests rely on the layout of a prefix: `bin/` has the programs, `include/nix/` the
//! headers as upstream installs them, and `include-deps/`, if it exists, the boost and nlohmann headers with which this
//! Nix was built.

mod archive;
mod bookworm;
mod prefix;
mod root;
mod sid;
mod trixie;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

pub use self::prefix::Nix;
use self::prefix::describe;

/// A Nix version, by its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// 2.8: Debian bookworm's package, with the headers of its source package.
    Bookworm,
    /// 2.26: built from Debian trixie's source package, because trixie's binary cannot load plugins.
    Trixie,
    /// The newest version in Debian: sid's static binary, which cannot load plugins and has no headers.
    Sid,
    /// Any Nix that is installed in one prefix.
    Prefix(PathBuf),
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "2.8" => Ok(Self::Bookworm),
            "2.26" => Ok(Self::Trixie),
            "sid" => Ok(Self::Sid),
            path if path.contains('/') => Ok(Self::Prefix(path.into())),
            other => bail!("no such Nix: {other}; pass 2.8, 2.26, sid or the path of a prefix"),
        }
    }
}

/// Installs a Nix, with all set-up. Takes milliseconds if it is installed.
pub fn install(version: &Version) -> Result<Nix> {
    match version {
        Version::Bookworm => bookworm::install().context("cannot set up Nix 2.8"),
        Version::Trixie => trixie::install().context("cannot set up Nix 2.26"),
        Version::Sid => sid::install().context("cannot set up sid's Nix"),
        Version::Prefix(prefix) => existing(prefix),
    }
}

/// Returns a Nix that is installed in a prefix.
fn existing(prefix: &Path) -> Result<Nix> {
    let prefix = prefix.canonicalize().with_context(|| format!("cannot find {}", prefix.display()))?;
    let mut nix = describe("", &prefix)?;
    if !nix.has_headers {
        bail!(
            "this Nix has no headers (no nix/primops.hh, no nix/expr/primops.hh): {}",
            prefix.join("include").display()
        );
    }
    let pkg_config =
        ["lib", "lib64", "lib/x86_64-linux-gnu"].map(|lib| prefix.join(lib).join("pkgconfig/nix-expr.pc"));
    if !pkg_config.iter().any(|file| file.exists()) {
        bail!("this Nix has no shared libraries, so it cannot load plugins: no {}", pkg_config[0].display());
    }
    nix.name = nix.version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    Ok(nix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_choose_a_version() {
        assert_eq!("2.8".parse::<Version>().unwrap(), Version::Bookworm);
        assert_eq!("./nix".parse::<Version>().unwrap(), Version::Prefix("./nix".into()));
        let error = "2.9".parse::<Version>().unwrap_err().to_string();
        assert_eq!(error, "no such Nix: 2.9; pass 2.8, 2.26, sid or the path of a prefix");
    }

    #[test]
    fn missing_program_of_a_prefix_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().canonicalize().unwrap();
        let error = install(&Version::Prefix(prefix.clone())).unwrap_err().to_string();
        assert_eq!(error, format!("this Nix lacks a program: {}", prefix.join("bin/nix").display()));
    }
}
