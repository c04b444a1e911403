//! The cache: the flags of commands that use it, and `nixply cache`, which looks after it.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use bytesize::ByteSize;
use clap::builder::OsStringValueParser;
use nixply_packer::cache::{Cache, Imported};

use super::{human, unless_empty};
use crate::failure::{Hint, hinted};

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
    Verify,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = args.place.folder().context("there is no cache").hint("set HOME, or give --cache-dir")?;
    let cache = Cache::new(&folder);
    let mut out = String::new();
    if matches!(args.verb, Verb::Stat | Verb::Verify) && matches!(folder.try_exists(), Ok(false)) {
        return super::print(format!("there is no cache at {} yet\n", folder.display()));
    }
    match &args.verb {
        Verb::Stat => {
            let stats = cache.stat()?;
            for stat in &stats {
                writeln!(out, "{:<9} {:>8}  {:>9}", stat.kind.folder(), stat.entries, human(stat.bytes))?;
            }
            let total = stats.iter().map(|stat| stat.bytes).sum();
            let limit = args.place.cache_limit.as_u64();
            writeln!(out, "{} of {} in {}", human(total), human(limit), folder.display())?;
        }
        Verb::Gc => {
            let removed = cache.gc(args.place.cache_limit.as_u64())?;
            writeln!(out, "{} removed from {}", human(removed), folder.display())?;
        }
        Verb::Import { images } => {
            let specs = images.iter().map(|path| Ok((path, super::read_spec(path)?)));
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
                super::print(format!("{known} layers of {path} are known now{rest}\n"))?;
            }
            if !keyless.is_empty() {
                let error = anyhow!("none of the layers of {} can be known again", keyless.join(", "));
                return Err(hinted(error, "build the image with compression = \"zstd\" or \"gzip\""));
            }
        }
        Verb::Verify => {
            let verified = cache.verify()?;
            for path in &verified.removed {
                writeln!(out, "removed {}", path.display())?;
            }
            writeln!(out, "{} entries are whole, {} were damaged", verified.whole, verified.removed.len())?;
            if !verified.removed.is_empty() {
                super::print(out)?;
                bail!(
                    "the cache had damaged entries; they are gone, and no image was made from them: {}",
                    folder.display()
                );
            }
        }
    }
    super::print(out)
}
