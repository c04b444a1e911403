//! The newest Nix in Debian: sid's package, one static program. It exports no symbols, so it
//! cannot load plugins. Tests without the plugin run with it.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::archive::Archive;
use super::prefix::{Nix, Prefix};
use super::root::Root;

/// Number of this file's recipe. Raise it with each change, so that older results are rebuilt.
const RECIPE: &str = "1";

pub(super) fn install() -> Result<Nix> {
    let prefix = Prefix::of("sid", RECIPE)?;
    prefix.ready().map_or_else(|| prefix.make(|work, new| fill(work, new, &prefix.path)), Ok)
}

fn fill(work: &Path, new: &Path, last: &Path) -> Result<()> {
    let archive = Archive::open(&work.join("apt"), &["deb"], "sid")?;
    let root = Root::unpack(&archive, &["nix-bin"], &work.join("root"))?;
    fs::create_dir(new.join("bin"))?;
    for entry in fs::read_dir(root.inside("/usr/bin"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("nix") {
            fs::rename(entry.path(), new.join("bin").join(entry.file_name()))?;
        }
    }
    root.move_out(&["nix"], new, last)
}
