//! Serving images from this process, for `nixply serve` and for programs that pull from nixply: skopeo, docker, podman.

mod private_registry;

use std::path::Path;

use anyhow::Result;
use nixply_packer::Control;
use nixply_registry::content::{Compression, Image};
use nixply_registry::server::{Options, Server};
use tempfile::TempDir;

pub(crate) use self::private_registry::PrivateRegistry;
use crate::documents::{Content, SpecFile};
use crate::process::stop_flag;
use crate::{diagnosis, temporary};

/// Starts a server.
pub(crate) fn start(images: Vec<Image>, options: Options) -> Result<Server> {
    Server::start(images, options).map_err(diagnosis::of_registry)
}

/// Returns the image, or the images of an index, as clients get them. If `compression` names one codec for all clients, converts
/// those layers of a base image that have another codec and that some clients cannot read, such as zstd. The converted layers are in
/// the returned directory, which must live as long as the server.
pub(crate) fn converted<S: Clone + Into<Content>>(
    file: &SpecFile<S>,
    compression: Compression,
    scratch: &Path,
) -> Result<(Content, Option<TempDir>)> {
    let content: Content = file.spec.clone().into();
    let codec = match compression {
        Compression::Always(codec) if content.layers().any(|layer| layer.is_to_convert(codec)) => codec,
        _ => return Ok((content, None)),
    };
    let stop = stop_flag()?;
    let directory = temporary::directory_in(scratch, "nixply-converted-")?;
    let content = content
        .map(|spec| spec.converted(&file.store, codec, directory.path(), &Control::new(&stop, &())))?;
    Ok((content, Some(directory)))
}
