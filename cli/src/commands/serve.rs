//! `nixply serve`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use nixply_packer::cache::Cache;
use nixply_packer::closure::Store;
use nixply_packer::compress::Codec;
use nixply_packer::image::blob;
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::pack::Control;
use nixply_registry::Error;
use nixply_registry::server::{Compression, Counts, Image, Options, Readers, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::cache::CacheFlags;
use super::{Machine, Talk, human, values};
use crate::failure::{Hint, hinted, misused};
use crate::temporary;
use crate::terminal::{self, say};

/// The length of a store path's hash.
const HASH: usize = 32;

/// Serve images as a registry on this machine until interrupted; a layer is packed when somebody first asks for it
///
/// Prints the images' references, one a line, once they can be pulled: docker pull takes them as they are, podman pull with
/// --tls-verify=false, skopeo copy with --src-tls-verify=false. Every user of this machine can read the images, unless --private
/// is given.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The images' specs
    #[arg(value_name = "IMAGE.json", required = true)]
    images: Vec<PathBuf>,

    /// What an image is called; given once for each image, in their order [default: NAME of the file image-NAME.json]
    #[arg(short, long = "name", value_name = "NAME[:TAG]", value_parser = values::name_and_tag)]
    names: Vec<(String, String)>,

    /// Where to listen; port 0 is a free one
    #[arg(short, long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    #[arg(value_parser = values::address)]
    listen: SocketAddr,

    /// Allow an address that other machines reach; whoever reaches it may read the images
    #[arg(long)]
    allow_remote: bool,

    /// Answer the programs of this user and of root alone (on Linux, and on loopback)
    #[arg(long, conflicts_with = "allow_remote")]
    private: bool,

    /// Answer requests that call this server by another name than localhost or a loopback address, such as
    /// host.docker.internal; can be given several times
    #[arg(long = "allow-host", value_name = "NAME")]
    allow_hosts: Vec<String>,

    /// Take layers' files (`layer-path`) from anywhere, as n2c image-from-dir names them; else a spec may name the store alone
    #[arg(long)]
    allow_outside_store: bool,

    /// none, gzip or zstd, with a level as in zstd:9, whatever the spec says. auto keeps the spec's codecs and compresses plain
    /// layers with zstd; clients that cannot read zstd get gzip in its place. A base image's layers keep their codec, unless
    /// that is zstd and the client cannot read it, or this flag names another codec
    #[arg(short, long, value_name = "CODEC", default_value_t = Compression::Auto, value_parser = values::compression)]
    compression: Compression,

    /// A folder for packed layers while this runs; they take as much space as the compressed image [default: TMPDIR, else
    /// /var/tmp]
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,

    #[command(flatten)]
    talk: Talk,

    #[command(flatten)]
    machine: Machine,

    #[command(flatten)]
    cache: CacheFlags,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut converted = Vec::new();
    let images = args.images(&mut converted)?;
    let references: Vec<String> = images.iter().map(Image::reference).collect();
    // Before the first reference is printed: whoever has read it may stop this.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let cache = args.cache.open();
    let options = Options {
        listen: args.listen,
        allow_remote: args.allow_remote,
        readers: if args.private { Readers::UserAndRoot } else { Readers::Everyone },
        hosts: args.allow_hosts.clone(),
        compression: args.compression,
        store: args.store(),
        cache: cache.clone(),
        threads: args.machine.jobs,
        check_store: args.machine.check_store,
        scratch: args.scratch(),
        report: Arc::new(|error| terminal::error(error.chain())),
        observer: Arc::new(()),
    };
    let server = Server::start(images, options).map_err(known)?;
    let address = server.address();
    super::print(references.iter().map(|reference| format!("{address}/{reference}\n")).collect::<String>())?;
    let tell = |line: String| {
        if !args.talk.quiet {
            say(line)
        }
    };
    tell(format!("serving on {address}; Ctrl-C ends it"));
    signals.forever().next();
    tell(summary(&server.stop()));
    cache.iter().for_each(Cache::trim);
    Ok(())
}

impl Args {
    fn scratch(&self) -> PathBuf {
        self.scratch_dir.clone().unwrap_or_else(scratch_dir)
    }

    /// One for all images.
    fn store(&self) -> Store {
        self.images.first().map_or_else(|| self.machine.store(), |image| self.machine.store_of(image))
    }

    /// The images. What was converted for them is in folders that have to stay.
    fn images(&self, converted: &mut Vec<TempDir>) -> Result<Vec<Image>> {
        let scratch = self.scratch();
        let (names, count) = (self.names.len(), self.images.len());
        if names != 0 && names != count {
            let error = misused(format!("--name is given {names} times for {count} images"));
            return Err(hinted(error, "give it once for each, in their order, or not at all"));
        }
        let image = |(at, path): (usize, &PathBuf)| -> Result<Image> {
            let given = self.names.get(at);
            let (name, tag) = match given {
                Some((name, tag)) => (name.clone(), tag.as_str()),
                None => (default_name(path), "latest"),
            };
            let spec = super::inputs::spec_within(path, &self.store(), self.allow_outside_store)?;
            let (spec, folder) = without_zstd(spec, &self.store(), self.compression, &scratch)?;
            converted.extend(folder);
            let image = Image::new(&name, tag, spec);
            match given {
                Some(_) => image.map_err(|error| misused(format!("--name {name}: {error}"))),
                None => image
                    .map_err(known)
                    .with_context(|| format!("{} has no name that an image can have", path.display()))
                    .hint("give one with --name"),
            }
        };
        self.images.iter().enumerate().map(image).collect()
    }
}

/// An error of the registry as failure.rs knows it.
pub(super) fn known(error: Error) -> anyhow::Error {
    match error {
        Error::Packer(error) => error.into(),
        Error::Remote(_) | Error::Twice { .. } => misused(error.to_string()),
        Error::Scratch { folder, source } => {
            temporary::failed("keep packed layers in the folder", &folder, source)
        }
        error => error.into(),
    }
}

/// The image for readers that may take no zstd: where `compression` is another codec whoever asks, base images' layers in zstd are
/// converted to it, in a folder that lives as long as what is given beside the spec.
pub(super) fn without_zstd(
    spec: ImageSpec,
    store: &Store,
    compression: Compression,
    scratch: &Path,
) -> Result<(ImageSpec, Option<TempDir>)> {
    let codec = match compression {
        Compression::Always(codec @ (Codec::None | Codec::Gzip { .. })) => codec,
        _ => return Ok((spec, None)),
    };
    if !spec.layers.iter().any(blob::is_kept_in_zstd) {
        return Ok((spec, None));
    }
    let stop = super::stop_flag()?;
    let folder = temporary::folder_in(scratch, "nixply-converted-")?;
    let spec = blob::without_zstd(spec, store, codec, folder.path(), &Control::new(&stop, &()))?;
    Ok((spec, Some(folder)))
}

/// What a spec's file is called after: `image-NAME.json`, in the store with a hash ahead of it, or behind a link such as
/// `result`.
pub(super) fn default_name(path: &Path) -> String {
    let target = || fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let file =
        if path.extension().is_some_and(|extension| extension == "json") { path.into() } else { target() };
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = file.strip_suffix(".json").unwrap_or(&file);
    let without_hash = name.get(HASH..).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name);
    without_hash.strip_prefix("image-").unwrap_or(without_hash).to_owned()
}

/// Packed layers can be gigabytes: /tmp may be memory.
pub(super) fn scratch_dir() -> PathBuf {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && large.is_dir() { large.into() } else { std::env::temp_dir() }
}

fn summary(counts: &Counts) -> String {
    let Counts { requests, packings, sent, .. } = counts;
    format!(
        "answered {requests} requests; packed {packings} layers; sent {} bytes ({}) of {} blobs",
        counts.bytes(),
        human(counts.bytes()),
        sent.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_called_after_their_files() {
        for (path, name) in [
            ("image-hello.json", "hello"),
            ("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-image-hello.json", "hello"),
            ("out/image.json", "image"),
            ("other", "other"),
        ] {
            assert_eq!(default_name(Path::new(path)), name, "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("result"), folder.path().join("image-linked.json"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(default_name(&link), "linked");
    }
}
