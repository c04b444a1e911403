//! The machine that a chore runs on: its cache folder, its Debian packages, its commands.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use etcetera::base_strategy::{BaseStrategy, Xdg};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository").into()
}

/// Where set-up keeps what is expensive to make: `$NIXPLY_XTASK_CACHE`, else for root `/var/cache/nixply` (tests run
/// programs in it as other users, and those cannot enter root's home), else `nixply/xtask` in the XDG cache directory.
/// Nothing in it is precious; delete it to start cold.
pub(crate) fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("NIXPLY_XTASK_CACHE") {
        return dir.into();
    }
    if is_root() {
        return "/var/cache/nixply".into();
    }
    let base = Xdg::new().map_or_else(|_| "/var/cache".into(), |xdg| xdg.cache_dir());
    base.join("nixply/xtask")
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// One line about what a chore does now, on stderr.
pub(crate) fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// A command as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command with its output passed through; a non-zero exit is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command quietly and gives its standard output; a non-zero exit is an error that carries its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !out.status.success() {
        bail!(
            "{} ended with {}:\n{}",
            shown(command),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// `program` with root's rights: as it is for root, through sudo otherwise.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// An error where root's rights are needed and there is no way to have them.
fn check_root(what: &str) -> Result<()> {
    if !is_root() && Command::new("sudo").arg("-V").output().is_err() {
        bail!(
            "{what} needs root's rights, and sudo is not installed: run this as root, or install sudo and allow it to you"
        );
    }
    Ok(())
}

/// Installs the Debian packages that are not yet installed, and says which.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    check_root(&format!("installing the Debian packages {}", missing.join(" ")))?;
    say(format!("installing Debian packages: {}", missing.join(" ")));
    apt_update()?;
    let mut command = as_root("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends"]).args(&missing);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    output(&mut command).map(drop)
}

/// Refreshes apt's package lists.
pub(crate) fn apt_update() -> Result<()> {
    output(as_root("apt-get").args(["update", "-q"])).map(drop)
}

fn installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}
