//! `nixply serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use nixply_packer::Cache;
use nixply_planning::Store;
use nixply_registry::content::{Compression, Counts, Image, Settings};
use nixply_registry::server::{Options, Readers};
use tempfile::TempDir;

use crate::arguments::{CacheArgs, OutsideStoreArgs, ScratchArgs, StoreArgs, Verbosity, values};
use crate::documents::SpecFile;
use crate::failure::{Hint, hinted, misused};
use crate::output::print;
use crate::process::TerminationSignals;
use crate::terminal::{self, human, say};
use crate::{diagnosis, serving};

/// Serve images as a registry on this machine until interrupted
///
/// Packs each layer on its first request. Prints one reference per image as soon as the images can be pulled. docker pull accepts them without options, podman pull
/// needs --tls-verify=false, skopeo copy needs --src-tls-verify=false. Every user of this machine can read the images, unless
/// --private is given. The tag of an image index is an OCI index; a client that does not accept indexes gets the image for this machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Specs of images and of image indexes
    #[arg(value_name = "IMAGE.json", required = true)]
    images: Vec<PathBuf>,

    /// Name of an image; give it once per image, in the same order [default: NAME of the file image-NAME.json or
    /// index-NAME.json]
    #[arg(short, long = "name", value_name = "NAME[:TAG]", value_parser = values::name_and_tag)]
    names: Vec<(String, String)>,

    /// Address to listen on; port 0 picks a free port
    #[arg(short, long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    #[arg(value_parser = values::address)]
    listen: SocketAddr,

    /// Allow an address that other machines can reach; they can then read the images
    #[arg(long)]
    allow_remote: bool,

    /// Answer only programs of this user and of root (Linux, loopback addresses only)
    #[arg(long, conflicts_with = "allow_remote")]
    private: bool,

    /// Also answer requests for this host name, such as host.docker.internal; localhost and loopback addresses are always
    /// answered. Can be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    allow_hosts: Vec<String>,

    #[command(flatten)]
    outside_store: OutsideStoreArgs,

    /// Codec, with an optional level as in zstd:9; overrides the spec's codecs. auto keeps the spec's codecs, compresses plain layers
    /// with zstd, and sends gzip to clients that cannot read the codec. Layers of a base image keep their codec, except that one
    /// which some clients cannot read, such as zstd, is converted for these clients, or if this flag names another codec
    #[arg(short, long, value_name = "CODEC", default_value_t = Compression::Auto, value_parser = values::compression())]
    compression: Compression,

    #[command(flatten)]
    scratch: ScratchArgs,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut converted = Vec::new();
    let images = args.images(&mut converted)?;
    let references: Vec<String> = images.iter().map(Image::reference).collect();
    // Before the first reference is printed: its reader may stop this process.
    let signals = TerminationSignals::catch()?;
    let cache = args.cache.open();
    let options = Options {
        listen: args.listen,
        allow_remote: args.allow_remote,
        readers: if args.private { Readers::UserAndRoot } else { Readers::Everyone },
        hosts: args.allow_hosts.clone(),
        other_host_advice: "start it with --allow-host NAME to accept another".into(),
        content: Settings {
            compression: args.compression,
            store: args.store(),
            cache: cache.clone(),
            threads: args.store.jobs,
            check_store: args.store.check_store,
            scratch: args.scratch.directory(),
            report: Arc::new(|error| terminal::error(error.chain())),
            observer: Arc::new(()),
            realise: Arc::new(()),
        },
    };
    let server = serving::start(images, options)?;
    let address = server.address();
    print(references.iter().map(|reference| format!("{address}/{reference}\n")).collect::<String>())?;
    let announce = |line: String| {
        if !args.verbosity.quiet {
            say(line)
        }
    };
    announce(format!("serving on {address}; stop with Ctrl-C"));
    signals.wait();
    announce(summary(&server.stop()));
    cache.iter().for_each(Cache::trim);
    Ok(())
}

impl Args {
    /// Returns the store of all images.
    fn store(&self) -> Store {
        self.images.first().map_or_else(|| self.store.store(), |image| self.store.store_of(image))
    }

    /// Reads the images. Their converted layers are in the directories that are added to `converted`.
    fn images(&self, converted: &mut Vec<TempDir>) -> Result<Vec<Image>> {
        let scratch = self.scratch.directory();
        let (names, count) = (self.names.len(), self.images.len());
        if names != 0 && names != count {
            let error = misused(format!("--name is given {names} times for {count} images"));
            return Err(hinted(error, "give it once per image, in the same order, or not at all"));
        }
        let files = self.outside_store.files();
        let image = |(at, path): (usize, &PathBuf)| -> Result<Image> {
            let file = SpecFile::read_content_to_pack(path, self.store(), files)?;
            let (content, directory) = serving::converted(&file, self.compression, &scratch)?;
            converted.extend(directory);
            match self.names.get(at) {
                Some((name, tag)) => {
                    content.named(name, tag).map_err(|error| misused(format!("--name {name}: {error}")))
                }
                None => content
                    .named(&file.name, "latest")
                    .map_err(diagnosis::of_registry)
                    .with_context(|| format!("cannot name the image after the file {}", path.display()))
                    .hint("name it with --name"),
            }
        };
        self.images.iter().enumerate().map(image).collect()
    }
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
