//! Copying a container with its copy script, which Nix has built and which runs skopeo.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::{MESSAGES, hints};
use crate::failure::{Failed, hinted};
use crate::process;

/// The script's argument for the container's own registry.
pub(crate) const OWN_REGISTRY: &str = "false";

/// Copies a spec's image. The script's output is for the user, so it goes to standard error.
pub(crate) fn copy(
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
    let messages = NamedTempFile::new().context("cannot create a temporary file")?;
    command.env(MESSAGES, messages.path());
    let own = io::stderr().as_fd().try_clone_to_owned().context("cannot write standard error")?;
    command.stdout(if quiet { Stdio::null() } else { own.into() });
    let status = process::status(&mut command).with_context(|| format!("cannot run {}", script.display()))?;
    if !status.success() {
        let failed = Failed::with_code(status, "Failed to copy container".into());
        let messages = std::fs::read(messages.path()).unwrap_or_default();
        return Err(match hints::for_skopeo(&String::from_utf8_lossy(&messages)) {
            Some(hint) => hinted(failed, hint),
            None => failed.into(),
        });
    }
    Ok(())
}
