//! Copying a container with the program that Nix has built for it, in which skopeo does the work.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::hints;
use crate::commands::skopeo::MESSAGES;
use crate::failure::{Failed, hinted};
use crate::interrupt;

/// What the program takes for "the container's own".
pub(super) const OWN_REGISTRY: &str = "false";

/// Copies a spec's image. What the program prints is for the user, not data.
pub(super) fn copy(
    script: &Path,
    spec: &Path,
    registry: Option<&str>,
    arguments: &[String],
    quiet: bool,
) -> Result<()> {
    let mut command = Command::new(script);
    command.arg(spec).arg(registry.unwrap_or(OWN_REGISTRY)).args(arguments);
    if !quiet && std::env::var_os("NIXPLY_PROGRESS").is_none() {
        command.env("NIXPLY_PROGRESS", "bars");
    }
    // Standard output is not to be this process', and is to come when it comes.
    let messages = NamedTempFile::new().context("cannot make a temporary file")?;
    command.env(MESSAGES, messages.path());
    let own = io::stderr().as_fd().try_clone_to_owned().context("cannot write standard error")?;
    command.stdout(if quiet { Stdio::null() } else { own.into() });
    let status =
        interrupt::status(&mut command).with_context(|| format!("cannot run {}", script.display()))?;
    if !status.success() {
        let failed = Failed::with_code(status, "Failed to copy container".into());
        let said = std::fs::read(messages.path()).unwrap_or_default();
        return Err(match hints::of_skopeo(&String::from_utf8_lossy(&said)) {
            Some(way_out) => hinted(failed, way_out),
            None => failed.into(),
        });
    }
    Ok(())
}
