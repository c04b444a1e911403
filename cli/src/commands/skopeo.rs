//! `nixply skopeo`, and nixply under the name `skopeo`: runs the real skopeo and adds the source `nix:IMAGE.json`, the spec of
//! an image or of an image index.
//!
//! `skopeo copy` reads from a registry of this process, `skopeo inspect` from an OCI layout without layers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::CommandFactory;
use nixply_packer::Control;
use nixply_packer::image::layout;

use crate::arguments::EnvironmentArgs;
use crate::documents::{Content, LayerFiles, SpecFile};
use crate::failure::misused;
use crate::process::{self, Passthrough};
use crate::serving::PrivateRegistry;
use crate::skopeo::{self, CommandLine, Skopeo, Verb};
use crate::terminal::{self, is_live};
use crate::transfer::Watch;
use crate::{diagnosis, temporary};

/// Tag of the image in the source that the real skopeo reads. It is not copied.
const TAG: &str = "latest";

/// Environment variable that replaces skopeo's progress output by nixply's if it is `bars` or `1`.
const PROGRESS: &str = "NIXPLY_PROGRESS";

/// Run skopeo with the additional source nix:IMAGE.json
///
/// Runs the real skopeo: the one in NIXPLY_SKOPEO, or the first on PATH. Passes on all arguments and signals, and exits with its
/// exit code. A link to nixply with the name skopeo does the same.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments for skopeo
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    pass(&args.arguments)
}

/// Runs skopeo with these arguments and returns its exit code.
pub(crate) fn pass(arguments: &[OsString]) -> Result<ExitCode> {
    let skopeo = Skopeo::find()?;
    let Some(line) = CommandLine::of(arguments) else {
        return Err(skopeo.exec(arguments));
    };
    let path = line.spec();
    if path.as_os_str().is_empty() {
        return Err(misused("nix: must be followed by the path of an image spec, as in nix:image.json"));
    }
    let settings = match EnvironmentArgs::read("nixply skopeo") {
        Ok(settings) => settings,
        Err(error) => return diagnosis::usage(error, EnvironmentArgs::command()),
    };
    // Layer files may be anywhere: the same user names the spec and reads the files.
    let file = SpecFile::read_content_to_pack(path, settings.store.store_of(path), LayerFiles::Anywhere)?;
    let status = match line.verb {
        Verb::Inspect => describe(&skopeo, &line, &file)?,
        Verb::Copy | Verb::Layers => offer(&skopeo, &line, &settings, &file)?,
    };
    // By now all temporary files have been removed: `exit_code` may end this process.
    Ok(process::exit_code(status))
}

/// Runs skopeo with a registry on loopback as its source.
fn offer(
    skopeo: &Skopeo,
    line: &CommandLine<'_>,
    settings: &EnvironmentArgs,
    file: &SpecFile<Content>,
) -> Result<ExitStatus> {
    let watch =
        is_watched(line).then(|| Watch::of_layers(file.spec.layers().cloned().collect(), line.is_quiet()));
    let is_watched = watch.is_some();
    let compression = skopeo::compression_for(line, &file.spec.layers().collect::<Vec<_>>());
    let signals = Passthrough::catch()?;
    let registry = PrivateRegistry::start(settings, file, compression, watch)?;
    let source = format!("docker://{}", registry.reference());
    let arguments = line.with_registry(&source, &registry.auth_file()?, is_watched);
    let status = skopeo.run(&arguments, signals, is_watched && is_live());
    let reached = registry.reached();
    if reached.refused && !reached.answered {
        let why = "skopeo did not read the credentials of nixply's registry from --src-authfile; add \"containers-auth.json\" to \
                   credential-helpers in registries.conf";
        terminal::error(why);
    }
    registry.stop(status.as_ref().is_ok_and(ExitStatus::success));
    status
}

/// Whether this process shows progress instead of skopeo.
fn is_watched(line: &CommandLine<'_>) -> bool {
    let asked = std::env::var(PROGRESS).is_ok_and(|value| value == "bars" || value == "1");
    asked && line.verb == Verb::Copy
}

/// Runs skopeo with an OCI layout that has everything but the layers. For a registry, `skopeo inspect` would print its address.
fn describe(skopeo: &Skopeo, line: &CommandLine<'_>, file: &SpecFile<Content>) -> Result<ExitStatus> {
    let signals = Passthrough::catch()?;
    // skopeo parses the part after a colon as the tag.
    let parent = Some(std::env::temp_dir()).filter(|directory| !directory.to_string_lossy().contains(':'));
    let parent = parent.unwrap_or_else(|| PathBuf::from("/tmp"));
    let directory = temporary::directory_in(&parent, "nixply-inspect-")?;
    let stop = AtomicBool::new(false);
    let control = Control::new(&stop, &());
    match &file.spec {
        Content::Image(spec) => layout::write_description(spec, directory.path(), TAG, &control).map(drop)?,
        Content::Index(spec) => {
            layout::write_index_description(spec, directory.path(), TAG, &control).map(drop)?;
        }
    }
    let mut source = OsString::from("oci:");
    source.push(directory.path());
    source.push(format!(":{TAG}"));
    skopeo.run(&line.with_layout(&source), signals, false)
}
