//! `nixply serve`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use nixply_packer::cache::Cache;
use nixply_packer::closure::Store;
use nixply_registry::Error;
use nixply_registry::server::{Compression, Counts, Image, Options, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cache::CacheFlags;
use super::{Machine, Talk, human};
use crate::failure::{Hint, hinted};
use crate::terminal::{self, say};

/// The length of a store path's hash.
const HASH: usize = 32;

/// Serve images as a registry on this machine until interrupted; a layer is packed when somebody first asks for it
///
/// Prints the images' references, one a line, once they can be pulled: docker pull takes them as they are, podman pull with
/// --tls-verify=false, skopeo copy with --src-tls-verify=false.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The images' specs
    #[arg(value_name = "IMAGE.json", required = true)]
    images: Vec<PathBuf>,

    /// What an image is called; given once for each image, in their order [default: NAME of the file image-NAME.json]
    #[arg(short, long = "name", value_name = "NAME[:TAG]")]
    names: Vec<String>,

    /// Where to listen; port 0 is a free one
    #[arg(short, long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,

    /// Allow an address that other machines reach; whoever reaches it may read the images
    #[arg(long)]
    allow_remote: bool,

    /// Take layers' files (`layer-path`) from anywhere, as n2c image-from-dir names them; else a spec may name the store alone
    #[arg(long)]
    allow_outside_store: bool,

    /// none, gzip or zstd, with a level as in zstd:9, whatever the spec says; auto is what the spec says, and for plain
    /// layers zstd, or gzip where the client cannot read zstd
    #[arg(short, long, value_name = "CODEC", default_value_t = Compression::Auto)]
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
    let images = args.images()?;
    let references: Vec<String> = images.iter().map(Image::reference).collect();
    // Before the first reference is printed: whoever has read it may stop this.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let cache = args.cache.open();
    let options = Options {
        listen: args.listen,
        allow_remote: args.allow_remote,
        compression: args.compression,
        store: args.store(),
        cache: cache.clone(),
        threads: args.machine.jobs,
        check_store: args.machine.check_store,
        scratch: args.scratch_dir.clone().unwrap_or_else(scratch_dir),
        report: Arc::new(|error| terminal::error(error.chain())),
        observer: Arc::new(()),
    };
    let server = Server::start(images, options).map_err(|error| match error {
        // Known to failure.rs by its type.
        Error::Packer(error) => anyhow::Error::from(error),
        error => error.into(),
    })?;
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
    /// One for all images.
    fn store(&self) -> Store {
        self.images.first().map_or_else(|| self.machine.store(), |image| self.machine.store_of(image))
    }

    fn images(&self) -> Result<Vec<Image>> {
        let (names, count) = (self.names.len(), self.images.len());
        if names != 0 && names != count {
            let error = anyhow!("--name is given {names} times for {count} images");
            return Err(hinted(error, "give it once for each, in their order, or not at all"));
        }
        let image = |(at, path): (usize, &PathBuf)| -> Result<Image> {
            let given = self.names.get(at);
            let (name, tag) = match given {
                Some(given) => split_tag(given),
                None => (default_name(path), "latest"),
            };
            let spec = super::read_spec_within(path, &self.store(), self.allow_outside_store)?;
            let image = Image::new(&name, tag, spec);
            let image = image.map_err(|error| match error {
                Error::Packer(error) => anyhow::Error::from(error),
                error => error.into(),
            });
            match given {
                Some(given) => image.with_context(|| format!("--name {given}")),
                None => image
                    .with_context(|| format!("{} has no name that an image can have", path.display()))
                    .hint("give one with --name"),
            }
        };
        self.images.iter().enumerate().map(image).collect()
    }
}

/// A tag follows the last colon; one ahead of a slash is a registry's port.
fn split_tag(name: &str) -> (String, &str) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.into(), tag),
        _ => (name.into(), "latest"),
    }
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
    let Counts { requests, packings, sent } = counts;
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

    #[test]
    fn tags_follow_the_last_colon() {
        for (text, name, tag) in [
            ("a", "a", "latest"),
            ("a/b:c", "a/b", "c"),
            ("host:5000/a", "host:5000/a", "latest"),
            ("h:1/a:t", "h:1/a", "t"),
        ] {
            assert_eq!(split_tag(text), (name.into(), tag));
        }
    }
}
