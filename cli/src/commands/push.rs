//! `nixply push`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use nixply_packer::{Cache, Codec};
use nixply_registry::client::{Client, Options, Pushed, Reference};
use nixply_registry::content::{Compression, Image, Settings};

use crate::arguments::{CacheArgs, OutsideStoreArgs, StoreArgs, Verbosity, values};
use crate::credentials::CredentialFiles;
use crate::documents::SpecFile;
use crate::output::print;
use crate::terminal::{self, count, human, say};
use crate::transfer::Watch;
use crate::{diagnosis, serving};

/// Push an image to a registry
///
/// Sends only blobs that the repository lacks, and packs a layer only if it is sent or if the spec does not record its digest. Prints
/// the pushed image as HOST/REPOSITORY:TAG@DIGEST. Credentials are those of podman login, skopeo login and docker login.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Image spec
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// Destination, such as ghcr.io/team/app:1.0; the tag defaults to latest
    #[arg(value_name = "REFERENCE", value_parser = reference)]
    to: Reference,

    /// Codec of layers for which the spec records no compression, with an optional level as in zstd:9
    #[arg(short, long, value_name = "CODEC", default_value = "gzip", value_parser = values::codec())]
    compression: Codec,

    /// File with the registry's credentials, in the form of containers-auth.json(5) [default: REGISTRY_AUTH_FILE, otherwise the files
    /// of podman, skopeo and Docker]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// Use plain HTTP for this host, with its port. Loopback addresses need no flag. Can be repeated
    #[arg(long = "plain-http", value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,

    #[command(flatten)]
    outside_store: OutsideStoreArgs,

    /// Directory for layers that are packed without a cache [default: TMPDIR, otherwise /var/tmp]
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error: nixply_registry::Error| error.to_string())
}

/// Pushes the image and prints its reference.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let files = args.outside_store.files();
    let file = SpecFile::read_to_pack(&args.image, args.store.store_of(&args.image), files)?;
    let cache = args.cache.open();
    let watch = Watch::new(&file.spec, args.verbosity.quiet);
    let content = Settings {
        compression: Compression::Recorded(args.compression),
        cache: cache.clone(),
        threads: args.store.jobs,
        check_store: args.store.check_store,
        scratch: args.scratch_dir.clone().unwrap_or_else(serving::scratch_dir),
        report: Arc::new(|error| terminal::error(error.chain())),
        observer: watch.observer(),
        ..Settings::new(file.store.clone())
    };
    let credentials = args.auth_file.as_deref().map_or_else(CredentialFiles::of_user, CredentialFiles::only);
    let client = Client::new(Options {
        credentials: Arc::new(credentials),
        plain_http: args.plain_http.clone(),
        user_agent: format!("nixply/{}", env!("CARGO_PKG_VERSION")),
    })
    .map_err(diagnosis::of_registry)?;
    let image =
        Image::new(&args.to.repository, &args.to.tag, file.spec.clone()).map_err(diagnosis::of_registry)?;
    let pushed = client.push(image, content, &args.to).map_err(diagnosis::of_registry)?;
    cache.iter().for_each(Cache::trim);
    if !pushed.unchanged {
        watch.finish();
    }
    print(format!("{}@{}\n", args.to, pushed.digest))?;
    if !args.verbosity.quiet {
        say(format!("{} in {:.2} s", summary(&pushed), start.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Returns the summary of a push.
fn summary(pushed: &Pushed) -> String {
    let requests = count(usize::try_from(pushed.requests).unwrap_or(usize::MAX), "request");
    if pushed.unchanged {
        return format!("the registry has this image already; {requests}");
    }
    format!(
        "sent {} ({}), {} were there; {requests}",
        count(pushed.sent, "blob"),
        human(pushed.bytes),
        pushed.there
    )
}
