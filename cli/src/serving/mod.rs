//! Serving images from this process, for `nixply serve` and for programs that pull from nixply: skopeo, docker, podman.

mod private_registry;

use std::path::{Path, PathBuf};

use anyhow::Result;
use nixply_packer::image::blob;
use nixply_packer::{Control, ImageSpec};
use nixply_registry::content::{Compression, Image};
use nixply_registry::server::{Options, Server};
use tempfile::TempDir;

pub(crate) use self::private_registry::PrivateRegistry;
use crate::documents::SpecFile;
use crate::process::stop_flag;
use crate::{diagnosis, temporary};

/// Starts a server.
pub(crate) fn start(images: Vec<Image>, options: Options) -> Result<Server> {
    Server::start(images, options).map_err(diagnosis::of_registry)
}

/// Returns the spec of the image as clients get it. If `compression` names one codec for all clients, converts those layers of a
/// base image that have another codec and that some clients cannot read, such as zstd. The converted layers are in the returned
/// directory, which must live as long as the server.
pub(crate) fn converted(
    file: &SpecFile,
    compression: Compression,
    scratch: &Path,
) -> Result<(ImageSpec, Option<TempDir>)> {
    let spec = file.spec.clone();
    let codec = match compression {
        Compression::Always(codec) if spec.layers.iter().any(|layer| blob::is_to_convert(layer, codec)) => {
            codec
        }
        _ => return Ok((spec, None)),
    };
    let stop = stop_flag()?;
    let directory = temporary::directory_in(scratch, "nixply-converted-")?;
    let spec = blob::converted(spec, &file.store, codec, directory.path(), &Control::new(&stop, &()))?;
    Ok((spec, Some(directory)))
}

/// Returns the default directory for packed layers: TMPDIR or /var/tmp. They can take gigabytes, and /tmp may be in memory.
pub(crate) fn scratch_dir() -> PathBuf {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && large.is_dir() { large.into() } else { std::env::temp_dir() }
}
