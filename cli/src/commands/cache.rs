//! The cache: the flags of commands that use it, and `nixply cache`, which looks after it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use bytesize::ByteSize;
use clap::builder::OsStringValueParser;
use nixply_packer::cache::{Cache, Compared, Imported};
use nixply_packer::closure::Store;
use nixply_packer::pack::Control;

use super::{human, unless_empty, values};
use crate::failure::{Hint, hinted};
use crate::terminal::Page;

/// Where results are remembered.
#[derive(clap::Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheFlags {
    #[command(flatten)]
    place: Place,

    /// Pack everything anew, and remember nothing, whatever cache is named elsewhere
    // No conflict with a cache folder: clap would count one that the environment names.
    #[arg(long)]
    no_cache: bool,

    /// A cache folder of others, which is read and never written; whoever can write to it decides what is in the image
    // Empty ones are taken, too: as with PATH, they come of joining what may be empty, and name nothing.
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_SHARED"), value_delimiter = ':')]
    #[arg(value_parser = OsStringValueParser::new())]
    cache_shared: Vec<OsString>,
}

#[derive(clap::Args)]
struct Place {
    /// The cache folder [default: nixply in the XDG cache directory]
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_DIR"), global = true)]
    cache_dir: Option<PathBuf>,

    /// How large the cache may become, as in 500MB or 20GiB; what was of no use for longest goes first
    #[arg(long, value_name = "SIZE", env = unless_empty("NIXPLY_CACHE_LIMIT"), default_value = "10GB", global = true)]
    #[arg(value_parser = values::size, allow_negative_numbers = true)]
    cache_limit: ByteSize,
}

impl CacheFlags {
    /// The cache, if there is to be one.
    pub(crate) fn open(&self) -> Option<Cache> {
        let folder = if self.no_cache { None } else { self.place.folder() };
        let shared =
            self.cache_shared.iter().filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
        let limit = self.place.cache_limit.as_u64();
        folder.map(|folder| Cache::new(folder).with_shared(shared).with_limit(limit))
    }
}

impl Place {
    fn folder(&self) -> Option<PathBuf> {
        // XDG Base Directory Specification: what is not absolute counts as unset.
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let given = || {
            let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
            base.map(|base| base.join("nixply"))
        };
        self.cache_dir.clone().or_else(given)
    }
}

/// Look after the cache
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show where the cache is and how much it has
    Stat,
    /// Remove what was of no use for longest, down to the limit, and what killed processes have left
    Gc,
    /// Learn the layers of images that were built elsewhere (with compression): where the next image has them, too, they are
    /// not packed to find out their digests. Whoever wrote the specs decides what those digests are
    Import {
        /// The images' specs
        #[arg(value_name = "IMAGE.json", required = true)]
        images: Vec<PathBuf>,
    },
    /// Read every entry, and remove those that are damaged; exit code 1 if there were any
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// Compare segments with the store, too: read the store paths of each, check their archives' hashes, and remove segments
    /// that differ. Forgets the digests of layers that were packed without --check-store. Keeps segments whose store paths
    /// are gone
    #[arg(long)]
    store: bool,

    /// The store directory as store paths name it
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), default_value = "/nix/store", value_parser = values::store)]
    store_dir: Store,

    /// Where that directory lies on this machine, if elsewhere (a chroot store's DIR/nix/store)
    #[arg(long, value_name = "DIR")]
    real_store_dir: Option<PathBuf>,
}

impl Verify {
    fn store(&self) -> Store {
        let mut store = self.store_dir.clone();
        if let Some(real_dir) = &self.real_store_dir {
            store.real_dir.clone_from(real_dir);
        }
        store
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = args.place.folder().context("there is no cache").hint("set HOME, or give --cache-dir")?;
    let cache = Cache::new(&folder);
    let mut out = Page::default();
    if matches!(args.verb, Verb::Stat | Verb::Verify(_)) && matches!(folder.try_exists(), Ok(false)) {
        out.line(format!("there is no cache at {} yet", folder.display()));
        return super::print(out);
    }
    match &args.verb {
        Verb::Stat => {
            let stats = cache.stat()?;
            for stat in &stats {
                out.line(format!("{:<9} {:>8}  {:>9}", stat.kind.folder(), stat.entries, human(stat.bytes)));
            }
            let total = stats.iter().map(|stat| stat.bytes).sum();
            let limit = args.place.cache_limit.as_u64();
            out.line(format!("{} of {} in {}", human(total), human(limit), folder.display()));
            if let Some(mode) = cache.open_to_others() {
                out.line(format!(
                    "its mode is {mode:04o}: other users can {}; chmod 700 makes it yours alone",
                    match mode & 0o022 {
                        0 => "read what is in it",
                        _ => "write to it, and so decide what is in your images",
                    }
                ));
            }
        }
        Verb::Gc => {
            let removed = cache.gc(args.place.cache_limit.as_u64())?;
            out.line(format!("{} removed from {}", human(removed), folder.display()));
        }
        Verb::Import { images } => {
            let specs = images.iter().map(|path| Ok((path, super::inputs::spec(path)?)));
            let mut keyless = Vec::new();
            for (path, spec) in specs.collect::<Result<Vec<_>>>()? {
                let path = path.display().to_string();
                let Imported { known, without_key } = cache.import(&spec).with_context(|| path.clone())?;
                if known == 0 && without_key > 0 {
                    keyless.push(path);
                    continue;
                }
                let rest = match without_key {
                    0 => String::new(),
                    count => format!("; {count} have no key: a base image's, or plain tar"),
                };
                // At once: an error with another image must not hide that this one is imported.
                let mut line = Page::default();
                line.line(format!("{known} layers of {path} are known now{rest}"));
                super::print(line)?;
            }
            if !keyless.is_empty() {
                let error = anyhow!("none of the layers of {} can be known again", keyless.join(", "));
                return Err(hinted(error, "build the image with compression = \"zstd\" or \"gzip\""));
            }
        }
        Verb::Verify(verify) => {
            let verified = cache.verify()?;
            for path in &verified.removed {
                out.line(format!("removed {}", path.display()));
            }
            out.line(format!(
                "{} entries are whole, {} were damaged",
                verified.whole,
                verified.removed.len()
            ));
            let compared = verify.store.then(|| compare(&cache, &verify.store())).transpose()?;
            if let Some(compared) = &compared {
                show(&mut out, compared);
            }
            super::print(out)?;
            ensure!(
                verified.removed.is_empty(),
                "the cache had damaged entries; they are gone, and no image was made from them: {}",
                folder.display()
            );
            if let Some(compared) = compared.filter(|of| !(of.different.is_empty() && of.unproven.is_empty()))
            {
                let count = compared.different.len() + compared.unproven.len();
                let error = anyhow!(
                    "{count} segments in the cache were not what the store has, or it is damaged; they are gone: {}",
                    folder.display()
                );
                let hint = "build images anew that were made with this cache, with --check-store; nix-store --verify \
                            --check-contents finds damaged store paths";
                return Err(hinted(error, hint));
            }
            return Ok(());
        }
    }
    super::print(out)
}

fn compare(cache: &Cache, store: &Store) -> Result<Compared> {
    let stop = super::stop_flag()?;
    Ok(cache.compare(store, &Control::new(&stop, &()))?)
}

/// Writes what a comparison with the store has found.
fn show(out: &mut Page, compared: &Compared) {
    let Compared { same, different, unproven, gone, unnamed, forgotten } = compared;
    for path in different {
        out.line(format!("removed {}: it is not what the store has", path.display()));
    }
    for (path, why) in unproven {
        out.line(format!("removed {}: {why}", path.display()));
    }
    let compared = *same as usize + different.len() + unproven.len();
    out.line(format!(
        "{compared} segments were compared with the store: {same} are the same, {} are not",
        compared - *same as usize
    ));
    if *gone > 0 {
        out.line(format!("{gone} are of store paths that are not there any more"));
    }
    if *unnamed > 0 {
        out.line(format!(
            "{unnamed} did not say of which store paths they are, as a former version made them: removed"
        ));
    }
    if *forgotten > 0 {
        out.line(format!(
            "{forgotten} digests and states of layers that were packed without --check-store are forgotten"
        ));
    }
}
