//! Builds the flake's program and plugin from the files that nix/source.nix chooses, and from nothing else: a member of the workspace,
//! a file that a macro embeds or a crate that is missing there fails here, not when users build the flake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host::{self, output, run, say};
use crate::nix::{self, Version};
use crate::store::Store;

/// What nixpkgs would be: the flake's package expressions with this machine's Rust.
const EXPRESSION: &str = include_str!("source_set.nix");

/// Builds both with the Nix of 2.8, in its sandbox where the process runs as root.
pub(crate) fn check() -> Result<()> {
    say("the flake's program and plugin, from nix/source.nix's files");
    host::apt_install(&["g++", "binutils"])?;
    let nix = nix::install(&Version::Bookworm)?;
    let folder = host::cache().join("source-set");
    fs::create_dir_all(&folder)?;
    let target = folder.join("target");
    fs::create_dir_all(&target)?;
    let vendor = vendor(&folder)?;
    let toolchain = PathBuf::from(output(rustc().args(["--print", "sysroot"]))?.trim());
    let version = output(rustc().arg("--version"))?;
    let version = version.split_whitespace().nth(1).context("rustc --version has no version")?;

    let copy = tempfile::tempdir()?;
    tracked_files(copy.path())?;
    let expression = folder.join("source_set.nix");
    fs::write(&expression, EXPRESSION)?;
    let store = Store::plain(&nix, folder.join("store"))?;
    let seen = [&toolchain, &vendor, &target, &nix.prefix].map(|path| path.display().to_string()).join(" ");
    let config = format!("extra-sandbox-paths = {seen}\nmax-jobs = 1\n");
    let mut build = store.command("nix-build", &config);
    build.arg(&expression).args(["--no-out-link", "--argstr", "rustVersion", version]);
    for (name, path) in
        [("toolchain", &*toolchain), ("vendor", &*vendor), ("target", &*target), ("nixPrefix", &*nix.prefix)]
    {
        build.args(["--argstr", name]).arg(path);
    }
    build.args(["--argstr", "nixVersion", &nix.version]).arg("--arg").arg("repository").arg(copy.path());
    let built = output(&mut build)
        .context("nix/source.nix lacks files that a build of the workspace needs, or has wrong ones")?;
    // The program has its expressions inside, and says so without anything of this checkout.
    let Some(program) =
        built.lines().map(|path| Path::new(path).join("bin/nixply")).find(|path| path.exists())
    else {
        bail!("nix/package.nix has made no bin/nixply: {built}");
    };
    run(Command::new(program).arg("--version").stdout(Stdio::null()))
}

/// Copies the files that git knows, as they are: of them a flake is made.
fn tracked_files(to: &Path) -> Result<()> {
    let listed = output(Command::new("git").current_dir(host::root()).args(["ls-files", "-z"]))?;
    for file in listed.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (host::root().join(file), to.join(file));
        fs::create_dir_all(to.parent().expect("it was joined"))?;
        // One that is deleted and not yet committed is in no copy either.
        if from.exists() {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// The crates that Cargo.lock names, as nixpkgs' importCargoLock vendors them: made once for each Cargo.lock.
fn vendor(folder: &Path) -> Result<PathBuf> {
    let lock = fs::read(host::root().join("Cargo.lock"))?;
    let name = format!("vendor-{}", &hex::encode(Sha256::digest(&lock))[..16]);
    let vendor = folder.join(&name);
    if vendor.exists() {
        return Ok(vendor);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vendor-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    say("vendoring the crates of Cargo.lock");
    let new = folder.join("vendor-new");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::root()).args(["vendor", "--quiet", "--locked", "--versioned-dirs"]).arg(&new);
    output(&mut cargo)?;
    fs::rename(&new, &vendor)?;
    Ok(vendor)
}

fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(host::root());
    command
}
