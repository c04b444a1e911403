//! Building the program, and the plugin for one Nix after the other.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{self, run};
use crate::nix::Nix;

/// What `cargo build --release` makes.
pub(crate) struct Built {
    /// The program.
    pub cli: PathBuf,
    /// The plugin for the Nix that was asked for.
    pub plugin: Option<PathBuf>,
}

/// Builds everything that a user builds; for `nix`, if it takes plugins. The plugin is kept under the Nix's name, because
/// cargo has one place for it.
pub(crate) fn release(nix: &Nix) -> Result<Built> {
    // cc and the border need a C++ compiler and binutils; the plugin needs no libraries of Nix.
    host::apt_install(&["g++", "binutils"])?;
    let target = target();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(host::root()).args(["build", "--release", "--locked", "-p", "nixply"]);
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
    let folder = plugin.parent().expect("it was joined");
    std::fs::create_dir_all(folder)?;
    // A Nix that has the old file loaded keeps it: the new one takes its name.
    let temporary = folder.join(".new");
    std::fs::copy(&built, &temporary).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&temporary, &plugin)?;
    let bytes = std::fs::read(&plugin)?;
    if !bytes.windows(13).any(|window| window == b"__nixplyImage") {
        bail!(
            "the plugin was built without Nix {}, although {} has headers",
            nix.version,
            nix.prefix.display()
        );
    }
    Ok(Built { cli, plugin: Some(plugin) })
}

/// The plugin for another Nix, if one has been built.
pub(crate) fn other_plugin(nix: &Nix) -> Result<Option<PathBuf>> {
    let plugins = target().join("plugins");
    let mut found: Vec<PathBuf> = match std::fs::read_dir(&plugins) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        Err(_) => Vec::new(),
    };
    found.sort();
    let other = found.into_iter().find(|folder| !folder.ends_with(&nix.version));
    Ok(other.map(|folder| folder.join("libnixply_nix_plugin.so")))
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| host::root().join("target"), PathBuf::from)
}
