//! Release builds of the program, and of the plugin for each Nix.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::host::{self, run};
use crate::nix::Nix;

/// Results of `cargo build --release`.
pub struct Built {
    /// The program.
    pub cli: PathBuf,
    /// The plugin for the requested Nix.
    pub plugin: Option<PathBuf>,
}

/// Builds the program, and the plugin if `nix` can load plugins. Copies the plugin to a path with the Nix version, because cargo
/// writes the plugins for all versions to the same path.
pub fn build(nix: &Nix) -> Result<Built> {
    // C++ code and the crate cc need a compiler and binutils. The plugin needs no libraries of Nix.
    host::apt_install(&["g++", "binutils"])?;
    let target = target();
    let mut command = host::cargo();
    command.args(["build", "--release", "--locked", "-p", "nixply"]);
    if nix.has_headers {
        command.args(["-p", "nixply-nix-plugin"]).env("NIXPLY_NIX_PREFIX", &nix.prefix);
    }
    run(&mut command)?;
    let cli = target.join("release/nixply");
    if !nix.has_headers {
        return Ok(Built { cli, plugin: None });
    }
    let built = target.join("release/libnixply_nix_plugin.so");
    let plugin = target.join("plugins").join(&nix.version).join("libnixply_nix_plugin.so");
    let directory = plugin.parent().expect("it has a parent");
    std::fs::create_dir_all(directory)?;
    // A running Nix keeps the old file, which the rename does not change.
    let temporary = directory.join(".new");
    std::fs::copy(&built, &temporary).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&temporary, &plugin)?;
    let bytes = std::fs::read(&plugin)?;
    if !bytes.windows(13).any(|window| window == b"__nixplyImage") {
        bail!(
            "the plugin was built without Nix {}, although {} has its headers",
            nix.version,
            nix.prefix.display()
        );
    }
    Ok(Built { cli, plugin: Some(plugin) })
}

/// Returns a plugin for another Nix, if one was built.
pub fn other_plugin(nix: &Nix) -> Result<Option<PathBuf>> {
    let plugins = target().join("plugins");
    let mut found: Vec<PathBuf> = match std::fs::read_dir(&plugins) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        Err(_) => Vec::new(),
    };
    found.sort();
    let other = found.into_iter().find(|directory| !directory.ends_with(&nix.version));
    Ok(other.map(|directory| directory.join("libnixply_nix_plugin.so")))
}

/// Returns cargo's target directory.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| host::root().join("target"), PathBuf::from)
}
