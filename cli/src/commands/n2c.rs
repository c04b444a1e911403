//! `nixply n2c`: nix2container's command line, for those who call it from expressions of their own.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nixply_packer::image::import;

/// Run as nix2container does: its subcommands with their arguments
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Write an image.json from a folder that skopeo's dir: transport has filled
    ImageFromDir {
        /// Where to write the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// The folder; its layers are named where they lie, so give it as an absolute path
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Write an image.json from a manifest and a JSON object that says where its blobs are, by digest
    ImageFromManifest {
        /// Where to write the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// The manifest, as skopeo inspect --raw prints it
        #[arg(value_name = "MANIFEST.json")]
        manifest: PathBuf,
        /// Blobs' files by the 64 digits of their digests
        #[arg(value_name = "BLOBS.json")]
        blobs: PathBuf,
    },
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let (output, spec) = match command {
        Command::ImageFromDir { output, folder } => (output, import::from_dir(folder)?),
        Command::ImageFromManifest { output, manifest, blobs } => {
            let text = super::read_text(blobs)?;
            let blobs: HashMap<String, PathBuf> = serde_json::from_str(&text)
                .with_context(|| format!("{} must be an object of files by digest", blobs.display()))?;
            (output, import::from_manifest(manifest, &blobs)?)
        }
    };
    super::write_file(Some(output), &spec.write())
}
