//! The cache: the flags of commands that use it, and `nixply cache`, which looks after it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use bytesize::ByteSize;
use clap::builder::OsStringValueParser;
use nixply_packer::cache::{Cache, Compared, Others};
use nixply_packer::closure::Store;
use nixply_packer::image::Imported;
use nixply_packer::pack::Control;

use super::{human, unless_empty, values};
use crate::failure::{Hint, hinted};
use crate::terminal::Page;

/// Where the results of earlier calls are.
#[derive(clap::Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheFlags {
    #[command(flatten)]
    place: Place,

    /// Use no cache, even if a flag or variable names one
    // Does not conflict with --cache-dir: clap would count one that the environment names.
    #[arg(long)]
    no_cache: bool,

    /// Another user's cache directory, which is read and never written; its owner decides what is in the image
    // Takes empty ones, too, as PATH does: they come from joining variables that may be empty.
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_SHARED"), value_delimiter = ':')]
    #[arg(value_parser = OsStringValueParser::new())]
    cache_shared: Vec<OsString>,
}

#[derive(clap::Args)]
struct Place {
    /// The cache directory [default: nixply in the XDG cache directory]
    #[arg(long, value_name = "DIR", env = unless_empty("NIXPLY_CACHE_DIR"), global = true)]
    cache_dir: Option<PathBuf>,

    /// The most that the cache may hold, as in 500MB or 20GiB; the least recently used entries are evicted first
    #[arg(long, value_name = "SIZE", env = unless_empty("NIXPLY_CACHE_LIMIT"), default_value = "10GB", global = true)]
    #[arg(value_parser = values::size, allow_negative_numbers = true)]
    cache_limit: ByteSize,
}

impl CacheFlags {
    /// Opens the cache, unless the user wants none.
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
        // XDG Base Directory Specification: relative paths count as unset.
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let given = || {
            let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
            base.map(|base| base.join("nixply"))
        };
        self.cache_dir.clone().or_else(given)
    }
}

/// Show, trim, check or fill the cache
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show the cache's directory, its entries and its size
    Stat,
    /// Evict the least recently used entries until the cache fits its limit, and remove files that killed processes have left
    Gc,
    /// Take the layers' digests from the specs of compressed images that were built elsewhere, so that an image with the same
    /// layers is built without packing them. The authors of the specs decide what those digests are
    Import {
        /// The specs of the images
        #[arg(value_name = "IMAGE.json", required = true)]
        images: Vec<PathBuf>,
    },
    /// Read every entry and remove the damaged ones; exit with 1 if there were any
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// Compare the cached parts of layers (segments) with the store, too. Reads the store paths of each segment, checks them as
    /// --check-store does, and removes segments that differ. Also removes the digests of layers that were packed without
    /// --check-store. Keeps segments whose store paths are no longer in the store
    #[arg(long)]
    store: bool,

    /// The store directory that store paths begin with
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), default_value = "/nix/store", value_parser = values::store)]
    store_dir: Store,

    /// The place of that directory on this machine, if it is another one (a chroot store's DIR/nix/store)
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
            match cache.others() {
                Others::Nothing => {}
                Others::Read => out.line(format!(
                    "other users can read its entries, because it has the file `shared`; remove that file and chmod -R go= {} to \
                     keep them to yourself",
                    folder.display()
                )),
                Others::Write(mode) => out.line(format!(
                    "its mode is {mode:04o}: other users can put files into it, which nixply does not use, and remove entries; \
                     chmod 700 {} keeps them out",
                    folder.display()
                )),
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
                // Printed at once: an error with another image must not hide that this one was imported.
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
                "the cache had damaged entries; they were removed, and no image was made from them: {}",
                folder.display()
            );
            if let Some(compared) = compared.filter(|of| !(of.different.is_empty() && of.unproven.is_empty()))
            {
                let count = compared.different.len() + compared.unproven.len();
                let error = anyhow!(
                    "{count} segments in the cache differed from the store, or their store paths are damaged; they were removed: {}",
                    folder.display()
                );
                let hint = "build the images that were made with this cache again, with --check-store; nix-store --verify \
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

/// Prints the result of a comparison with the store.
fn show(out: &mut Page, compared: &Compared) {
    let Compared { same, different, unproven, gone, unnamed, forgotten } = compared;
    for path in different {
        out.line(format!("removed {}: it differs from the store", path.display()));
    }
    for (path, why) in unproven {
        out.line(format!("removed {}: {why}", path.display()));
    }
    let compared = *same as usize + different.len() + unproven.len();
    out.line(format!(
        "compared {compared} segments with the store: {same} are the same, {} differ",
        compared - *same as usize
    ));
    if *gone > 0 {
        out.line(format!("kept {gone} segments whose store paths are no longer in the store"));
    }
    if *unnamed > 0 {
        out.line(format!(
            "removed {unnamed} segments of an older version, which does not name their store paths"
        ));
    }
    if *forgotten > 0 {
        out.line(format!(
            "removed {forgotten} digests and hash states of layers that were packed without --check-store"
        ));
    }
}
