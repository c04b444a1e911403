//! The machine: cache directory, Debian packages, commands.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use etcetera::base_strategy::{BaseStrategy, Xdg};

/// Returns the repository's root directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is in the repository").into()
}

/// Returns the cache directory of set-up: `$NIXPLY_XTASK_CACHE`, or for root `/var/cache/nixply` (tests run programs in it as
/// other users, who cannot enter root's home), or `nixply/xtask` in the XDG cache directory. Set-up recreates deleted files.
pub fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("NIXPLY_XTASK_CACHE") {
        return dir.into();
    }
    if is_root() {
        return "/var/cache/nixply".into();
    }
    let base = Xdg::new().map_or_else(|_| "/var/cache".into(), |xdg| xdg.cache_dir());
    base.join("nixply/xtask")
}

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Prints a line of progress on standard error.
pub fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// Returns a command as users type it, for messages.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns a command for cargo in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command and passes its output through; a non-zero exit status is an error with the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; a non-zero exit status is an error with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
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

/// Returns a command that runs as root, through sudo if necessary.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Fails if this process cannot run commands as root.
fn check_root(what: &str) -> Result<()> {
    if !is_root() && Command::new("sudo").arg("-V").output().is_err() {
        bail!("{what} needs root or sudo: run this as root, or install and configure sudo");
    }
    Ok(())
}

/// Installs missing Debian packages and prints their names.
pub fn apt_install(packages: &[&str]) -> Result<()> {
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

/// Updates apt's package lists.
pub fn apt_update() -> Result<()> {
    output(as_root("apt-get").args(["update", "-q"])).map(drop)
}

fn installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}
