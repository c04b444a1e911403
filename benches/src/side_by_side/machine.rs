//! Facts about the machine, for the reader of results: hardware, versions of programs, load.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use xtask::host::{self, output};

use super::contenders::Programs;

/// Returns the machine and the versions as text.
pub(super) fn facts(programs: &Programs) -> Result<String> {
    let mut text = String::new();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism()?;
    let sha_ni = if field("flags").split(' ').any(|flag| flag == "sha_ni") { "with" } else { "without" };
    writeln!(text, "cpu: {}, {cores} cores, {sha_ni} SHA-NI", field("model name"))?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = kilobytes.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    writeln!(text, "memory: {} MB", kilobytes.unwrap_or_default() / 1000)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    writeln!(text, "kernel: {}", kernel.trim())?;
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    writeln!(text, "system: {}", os.trim_matches('"'))?;
    let git = |args: &[&str]| output(Command::new("git").current_dir(host::root()).args(args));
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let changed = if changed { ", with changes" } else { "" };
    writeln!(text, "nixply: {}{changed}", git(&["rev-parse", "--short", "HEAD"])?.trim())?;
    writeln!(text, "skopeo: {}", version(&programs.skopeo, "--version"))?;
    for (program, argument) in [
        ("buildah", "--version"),
        ("docker-registry", "--version"),
        ("tar", "--version"),
        ("openssl", "version"),
        ("b3sum", "--version"),
        ("zstd", "--version"),
        ("igzip", "--version"),
        ("pigz", "--version"),
    ] {
        if let Ok(path) = which::which(program) {
            writeln!(text, "{program}: {}", version(&path, argument))?;
        }
    }
    if let Some(path) = programs.nix2container() {
        // It has no flag that prints its version.
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        writeln!(
            text,
            "nix2container: the program with SHA-256 {}",
            &hex::encode(Sha256::digest(bytes))[..16]
        )?;
    }
    if let Some(path) = programs.nix2container_skopeo() {
        writeln!(text, "nix2container's skopeo: {}", version(&path, "--version"))?;
    }
    Ok(text)
}

/// Returns the first line that a program prints for its version flag.
fn version(program: &Path, argument: &str) -> String {
    let Ok(out) = Command::new(program).arg(argument).output() else { return "cannot be started".into() };
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default().trim();
    // docker-registry prints its own path first.
    line.strip_prefix(&*program.to_string_lossy()).unwrap_or(line).trim().to_owned()
}

/// Returns the load averages of 1, 5 and 15 minutes.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Returns today's date, as 2026-11-25.
pub(super) fn today() -> Result<String> {
    Ok(output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned())
}
