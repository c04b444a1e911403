//! Builds the flake's program and plugin from the files of nix/source.nix alone. The build fails if nix/source.nix lacks a
//! workspace member or a file that a macro embeds, or if a crate is missing, before users see that failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use xtask::host::{self, output, run, say};
use xtask::nix::{self, Version};
use xtask::store::Store;

/// Evaluates the flake's package expressions with this machine's Rust, without nixpkgs.
const EXPRESSION: &str = include_str!("source_set.nix");

/// Builds the program and the plugin with Nix 2.8. Nix's sandbox is used only if root runs this.
pub(crate) fn check() -> Result<()> {
    say("the flake's program and plugin, from nix/source.nix's files");
    host::apt_install(&["g++", "binutils"])?;
    let nix = nix::install(&Version::Bookworm)?;
    let directory = host::cache().join("source-set");
    fs::create_dir_all(&directory)?;
    let target = directory.join("target");
    fs::create_dir_all(&target)?;
    let vendor = vendor(&directory)?;
    let toolchain = PathBuf::from(output(rustc().args(["--print", "sysroot"]))?.trim());
    let version = output(rustc().arg("--version"))?;
    let version = version.split_whitespace().nth(1).context("rustc --version has no version")?;

    let copy = tempfile::tempdir()?;
    tracked_files(copy.path())?;
    let expression = directory.join("source_set.nix");
    fs::write(&expression, EXPRESSION)?;
    let store = Store::plain(&nix, directory.join("store"))?;
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
    let built =
        output(&mut build).context("nix/source.nix lacks files that a build of the workspace needs")?;
    let Some(program) =
        built.lines().map(|path| Path::new(path).join("bin/nixply")).find(|path| path.exists())
    else {
        bail!("nix/package.nix built no bin/nixply: {built}");
    };
    run(Command::new(program).arg("--version").stdout(Stdio::null()))
}

/// Copies the files that git tracks, which are the files of the flake.
fn tracked_files(to: &Path) -> Result<()> {
    let listed = output(Command::new("git").current_dir(host::root()).args(["ls-files", "-z"]))?;
    for file in listed.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (host::root().join(file), to.join(file));
        fs::create_dir_all(to.parent().expect("it has a parent"))?;
        // Omit deleted files whose deletion is not committed.
        if from.exists() {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// Returns the vendored crates of Cargo.lock, like nixpkgs' importCargoLock. They are vendored once for each Cargo.lock.
fn vendor(directory: &Path) -> Result<PathBuf> {
    let lock = fs::read(host::root().join("Cargo.lock"))?;
    let name = format!("vendor-{}", &hex::encode(Sha256::digest(&lock))[..16]);
    let vendor = directory.join(&name);
    if vendor.exists() {
        return Ok(vendor);
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vendor-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    say("vendoring the crates of Cargo.lock");
    let new = directory.join("vendor-new");
    let mut cargo = host::cargo();
    cargo.args(["vendor", "--quiet", "--locked", "--versioned-dirs"]).arg(&new);
    output(&mut cargo)?;
    fs::rename(&new, &vendor)?;
    Ok(vendor)
}

fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(host::root());
    command
}
