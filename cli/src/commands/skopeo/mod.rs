//! `nixply skopeo`, and what the program does when it is called `skopeo`: the real skopeo, which here takes `nix:IMAGE.json`
//! for a source, too.
//!
//! ```text
//! arguments ──> offer ──────────────> program
//! is there a    how the layers        the real skopeo, with the source
//! nix: source   are compressed        that it can read in place of nix:
//! ```
//!
//! `skopeo copy` reads from a registry of this process (`nixply serve`'s), `skopeo inspect` from a layout without layers.

mod arguments;
mod offer;
mod program;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::CommandFactory;
use nixply_packer::image::layout;
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::pack::Control;

use self::arguments::{CommandLine, Verb};
use self::program::{Ended, Skopeo};
use super::loopback::{Loopback, Settings};
use super::serve;
use crate::failure::{self, misused};
use crate::temporary;
use crate::terminal::{self, is_live};
use crate::transfer::Watch;

/// The tag that the real skopeo finds the image under. It gets no further.
const TAG: &str = "latest";

/// Set to `bars` or `1`, it shows what is copied as `nixply` does: for callers to which it does not matter that skopeo runs.
const PROGRESS: &str = "NIXPLY_PROGRESS";

/// A file to which what skopeo says is written, too: for callers that have something to add to it.
pub(crate) const MESSAGES: &str = "NIXPLY_SKOPEO_MESSAGES";

/// Run skopeo, which here takes nix:IMAGE.json for a source of copy and inspect, too
///
/// It is the real skopeo that runs: the first on PATH, or NIXPLY_SKOPEO. All arguments, its exit code and signals are passed
/// on. A program of the name skopeo that is a link to nixply does the same.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What skopeo takes
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    pass(&args.arguments)
}

/// Runs skopeo with these arguments and gives its exit code.
pub(crate) fn pass(arguments: &[OsString]) -> Result<ExitCode> {
    let skopeo = Skopeo::find()?;
    let Some(line) = CommandLine::of(arguments) else {
        return Err(skopeo.replace_this(arguments));
    };
    let path = line.spec();
    if path.as_os_str().is_empty() {
        return Err(misused("nix: names no file: name an image's spec, as in nix:image.json"));
    }
    let settings = match Settings::from_environment("nixply skopeo") {
        Ok(settings) => settings,
        Err(error) => return failure::usage(error, Settings::command()),
    };
    // Layers' own files may be anywhere: one user names the spec and reads the files.
    let store = settings.machine.store_of(path);
    let spec = super::inputs::spec_within(path, &store, true)?;
    let ended = match line.verb {
        Verb::Inspect => describe(&skopeo, &line, &spec)?,
        Verb::Copy | Verb::Layers => offer(&skopeo, &line, &settings, path, spec)?,
    };
    // Nothing is left of what was made for it: this may be the end of the process.
    Ok(ended.pass_on())
}

/// Gives skopeo a registry on loopback.
fn offer(
    skopeo: &Skopeo,
    line: &CommandLine<'_>,
    settings: &Settings,
    path: &Path,
    spec: ImageSpec,
) -> Result<Ended> {
    let watch = is_watched(line).then(|| Watch::new(&spec, line.is_quiet()));
    let is_watched = watch.is_some();
    let compression = offer::compression(line, &spec);
    let signals = program::Signals::catch()?;
    let (spec, _converted) =
        serve::without_zstd(spec, &settings.machine.store_of(path), compression, &serve::scratch_dir())?;
    let loopback = Loopback::start(settings, path, spec, compression, watch)?;
    let source = format!("docker://{}", loopback.reference());
    let arguments = line.with_registry(&source, &loopback.auth_file()?, is_watched);
    let ended = skopeo.run(&arguments, signals, is_watched && is_live());
    let reached = loopback.reached();
    if reached.refused && !reached.answered {
        let why = "skopeo has not read the secret of nixply's registry from --src-authfile; add \"containers-auth.json\" to \
                   credential-helpers in registries.conf";
        terminal::error(why);
    }
    loopback.stop(ended.as_ref().is_ok_and(Ended::is_fine));
    ended
}

/// Whether this process tells how it goes, in place of skopeo.
fn is_watched(line: &CommandLine<'_>) -> bool {
    let asked = std::env::var(PROGRESS).is_ok_and(|value| value == "bars" || value == "1");
    asked && line.verb == Verb::Copy
}

/// Gives skopeo a layout that has everything but the layers. A registry's name would be among what it prints.
fn describe(skopeo: &Skopeo, line: &CommandLine<'_>, spec: &ImageSpec) -> Result<Ended> {
    let signals = program::Signals::catch()?;
    // skopeo takes what follows a colon for the tag.
    let parent = Some(std::env::temp_dir()).filter(|folder| !folder.to_string_lossy().contains(':'));
    let parent = parent.unwrap_or_else(|| PathBuf::from("/tmp"));
    let folder = temporary::folder_in(&parent, "nixply-inspect-")?;
    layout::write_description(spec, folder.path(), TAG, &Control::new(&AtomicBool::new(false), &()))?;
    let mut source = OsString::from("oci:");
    source.push(folder.path());
    source.push(format!(":{TAG}"));
    skopeo.run(&line.with_layout(&source), signals, false)
}
