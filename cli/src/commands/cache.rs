//! `nixply cache`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use nixply_packer::image::Imported;
use nixply_packer::{Cache, Codec, Compared, Control, Others};
use nixply_planning::Store;

use crate::arguments::{CacheDirArgs, unless_empty, values};
use crate::documents;
use crate::failure::{Hint, hinted};
use crate::output::print;
use crate::process::stop_flag;
use crate::terminal::{Page, human};

/// Show, trim, verify or fill the cache
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: CacheDirArgs,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show the cache's directory, its entries and its size
    Stat,
    /// Evict the least recently used entries until the cache fits its limit
    ///
    /// Also deletes files left by killed processes.
    Gc,
    /// Import layer digests from specs of images that were built elsewhere
    ///
    /// Layers that another image shares with these need not be packed again. The images must be compressed. Only import specs that you
    /// trust: the digests in them become the digests of your images.
    Import {
        /// Image specs
        #[arg(value_name = "IMAGE.json", required = true)]
        images: Vec<PathBuf>,
    },
    /// Verify every entry and delete the damaged ones; exit with 1 if there were any
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// Also compare the cached parts of layers (segments) with the store: verify the store paths of each segment like --check-store,
    /// and delete segments that differ. Also deletes digests of layers that were packed without --check-store. Keeps segments whose
    /// store paths are no longer in the store
    #[arg(long)]
    store: bool,

    /// Store directory that store paths start with
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), default_value = "/nix/store", value_parser = values::store)]
    store_dir: Store,

    /// Location of the store directory on this machine, if it differs (a chroot store's DIR/nix/store)
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
    let directory = args
        .dir
        .directory()
        .context("cannot find the cache directory")
        .hint("set HOME, or pass --cache-dir")?;
    let cache = Cache::new(&directory);
    let mut out = Page::default();
    if matches!(args.verb, Verb::Stat | Verb::Verify(_)) && matches!(directory.try_exists(), Ok(false)) {
        out.line(format!("there is no cache at {} yet", directory.display()));
        return print(out);
    }
    match &args.verb {
        Verb::Stat => {
            let stats = cache.stat()?;
            for stat in &stats {
                out.line(format!(
                    "{:<9} {:>8}  {:>9}",
                    stat.kind.directory(),
                    stat.entries,
                    human(stat.bytes)
                ));
            }
            let total = stats.iter().map(|stat| stat.bytes).sum();
            let limit = args.dir.cache_limit.as_u64();
            out.line(format!("{} of {} in {}", human(total), human(limit), directory.display()));
            match cache.others() {
                Others::Nothing => {}
                Others::Read => out.line(format!(
                    "other users can read its entries, because it contains the file `shared`; to prevent that, remove the file and run \
                     chmod -R go= {}",
                    directory.display()
                )),
                Others::Write(mode) => out.line(format!(
                    "its mode is {mode:04o}: other users can delete entries and add files, which nixply ignores; to prevent that, run \
                     chmod 700 {}",
                    directory.display()
                )),
            }
        }
        Verb::Gc => {
            let removed = cache.gc(args.dir.cache_limit.as_u64())?;
            out.line(format!("{} removed from {}", human(removed), directory.display()));
        }
        Verb::Import { images } => {
            let specs = images.iter().map(|path| Ok((path, documents::spec(path)?)));
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
                    count => format!("; {count} cannot be imported: layers of a base image, or plain tar"),
                };
                // Printed at once: an error with another image must not hide that this one was imported.
                let mut line = Page::default();
                line.line(format!("imported {known} layers of {path}{rest}"));
                print(line)?;
            }
            if !keyless.is_empty() {
                let error = anyhow!("cannot import any layer of {}", keyless.join(", "));
                let codecs = Codec::all().filter(|codec| *codec != Codec::None);
                let codecs: Vec<_> = codecs.map(|codec| format!("{:?}", codec.name())).collect();
                return Err(hinted(
                    error,
                    format!("build the image with compression = {}", codecs.join(" or ")),
                ));
            }
        }
        Verb::Verify(verify) => {
            let verified = cache.verify()?;
            for path in &verified.removed {
                out.line(format!("removed {}", path.display()));
            }
            out.line(format!(
                "{} entries are intact, {} were damaged",
                verified.whole,
                verified.removed.len()
            ));
            let compared = verify.store.then(|| compare(&cache, &verify.store())).transpose()?;
            if let Some(compared) = &compared {
                show(&mut out, compared);
            }
            print(out)?;
            ensure!(
                verified.removed.is_empty(),
                "the cache had damaged entries, which were removed; no image contains them: {}",
                directory.display()
            );
            if let Some(compared) = compared.filter(|of| !(of.different.is_empty() && of.unproven.is_empty()))
            {
                let count = compared.different.len() + compared.unproven.len();
                let error = anyhow!(
                    "{count} cached segments differed from the store, or their store paths are damaged; the segments were removed: {}",
                    directory.display()
                );
                let hint = "rebuild the images that were built with this cache, with --check-store; find damaged store paths with nix-store \
                            --verify --check-contents";
                return Err(hinted(error, hint));
            }
            return Ok(());
        }
    }
    print(out)
}

fn compare(cache: &Cache, store: &Store) -> Result<Compared> {
    let stop = stop_flag()?;
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
        "compared {compared} segments with the store: {same} are equal, {} differ",
        compared - *same as usize
    ));
    if *gone > 0 {
        out.line(format!("kept {gone} segments whose store paths are no longer in the store"));
    }
    if *unnamed > 0 {
        out.line(format!(
            "removed {unnamed} segments of an older nixply, which did not record their store paths"
        ));
    }
    if *forgotten > 0 {
        out.line(format!(
            "removed {forgotten} digests and hash states of layers that were packed without --check-store"
        ));
    }
}
