//! `nixply n2c`: nix2container's command line, for those who call it from expressions of their own. Arguments, files and
//! messages are those of its commit 20d33959; what it does wrong and this does not is in docs/nix2container.md.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nixply_packer::closure::{Closure, Store, StorePath};
use nixply_packer::compress::Codec;
use nixply_packer::document;
use nixply_packer::image::config::ImageConfig;
use nixply_packer::image::doubts::doubts;
use nixply_packer::image::import;
use nixply_packer::image::platform::{LINUX, Platform, Processor};
use nixply_packer::image::spec::{
    History, ImageSpec, Layer, ZERO_TIME, canonical_time, read_layers, write_layers,
};
use nixply_packer::pack::{Control, Packer};
use nixply_packer::plan::{self, PlannedPath};
use nixply_packer::request::{LayerPlan, Packing};
use nixply_packer::rules::{GoPermPath, PermPath, RewritePath};
use serde::de::DeserializeOwned;

use super::inputs::{self, read_text};
use super::values;
use crate::failure::misused;
use crate::terminal::say;

/// Run as nix2container does: its subcommands with their arguments
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Say more
    #[arg(short, long, global = true)]
    debug: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write an image.json from an image config and layers
    Image(Image),
    /// Write an image.json from a folder that skopeo's dir: transport has filled
    ImageFromDir {
        /// Where to write the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// The folder; its layers are named where they lie, so give it as an absolute path
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Which image of an index of several platforms
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<Platform>,
    },
    /// Write an image.json from a manifest and a JSON object that says where its blobs are, by digest
    ImageFromManifest {
        /// Where to write the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// The manifest, as skopeo inspect --raw prints it
        #[arg(value_name = "MANIFEST.json")]
        manifest: PathBuf,
        /// Blobs' files by the 64 digits of their digests
        #[arg(value_name = "BLOBS.json")]
        blobs: PathBuf,
        /// Which image of an index of several platforms; its manifest is among the blobs
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<Platform>,
    },
    /// Write a layers.json from store paths that any build makes the same
    LayersFromReproducibleStorepaths(Layers),
    /// Write a layers.json from store paths that another build may make otherwise, and keep the layers' tars
    LayersFromNonReproducibleStorepaths {
        #[command(flatten)]
        layers: Layers,
        /// The folder in which the tars are kept
        #[arg(long, value_name = "DIR")]
        tar_directory: Option<String>,
    },
}

#[derive(clap::Args)]
struct Image {
    /// Where to write the spec
    #[arg(value_name = "OUT.json")]
    output: PathBuf,
    /// OCI image config, keys in any case
    #[arg(value_name = "CONFIG.json")]
    config: PathBuf,
    /// Layers from the bottom up; one that the image has already is left out
    #[arg(value_name = "LAYERS.json", required = true)]
    layers: Vec<PathBuf>,
    /// The base image's spec; here and below, an empty name is none
    #[arg(long, value_name = "IMAGE.json")]
    from_image: Option<String>,
    /// OCI's name for the processor [default: this machine's]
    #[arg(long)]
    arch: Option<String>,
    /// When the image was made, RFC 3339
    #[arg(long, value_name = "TIME", default_value = ZERO_TIME)]
    created: String,
}

#[derive(clap::Args)]
struct Layers {
    /// Where to write the layers
    #[arg(value_name = "OUT.json")]
    output: PathBuf,
    /// Store paths with their references, a list as exportReferencesGraph has it; its order decides ties
    #[arg(value_name = "CLOSURE-GRAPH.json")]
    graph: PathBuf,
    /// Layers below: what they have, with equal rules, is left out
    #[arg(value_name = "PARENT-LAYERS.json")]
    parents: Vec<PathBuf>,
    /// A store path to leave out
    #[arg(long, value_name = "PATH")]
    ignore: Option<String>,
    /// A list of {path, regex, repl}
    #[arg(long, value_name = "FILE")]
    rewrites: Option<String>,
    /// A list of {path, regex, mode, uid, gid, uname, gname}
    #[arg(long, value_name = "FILE")]
    perms: Option<String>,
    /// The layers' entry in the history: {created, created_by, author, comment, empty_layer}
    #[arg(long, value_name = "FILE")]
    history: Option<String>,
    /// At most so many layers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::count, allow_negative_numbers = true)]
    max_layers: usize,
}

/// Runs a command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (output, spec) = match &args.command {
        Command::Image(image) => (&image.output, image.spec()?),
        Command::ImageFromDir { output, folder, platform } => {
            (output, imported(import::from_dir(folder, platform.as_ref())?))
        }
        Command::ImageFromManifest { output, manifest, blobs, platform } => {
            let blobs: HashMap<String, PathBuf> =
                document::read(&read_text(blobs)?, &inputs::name_of(blobs))?;
            (output, imported(import::from_manifest(manifest, &blobs, platform.as_ref())?))
        }
        Command::LayersFromReproducibleStorepaths(layers) => return layers.write(None, args.debug),
        Command::LayersFromNonReproducibleStorepaths { layers, tar_directory } => {
            return layers.write(named(tar_directory.as_deref()), args.debug);
        }
    };
    super::output::write(Some(output), &spec.write())?;
    say(format!("Image has been written to {}", output.display()));
    Ok(())
}

fn imported(spec: ImageSpec) -> ImageSpec {
    for file in spec.layers.iter().filter_map(|layer| layer.layer_path.as_deref()) {
        say(format!("Adding tar file '{file}' as image layer"));
    }
    spec
}

/// A flag's file; for nix2container, an empty one is none.
fn named(flag: Option<&str>) -> Option<&Path> {
    flag.filter(|name| !name.is_empty()).map(Path::new)
}

/// Reads a file of JSON; null is the default, as in Go.
fn read<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let value: Option<T> = document::read(&read_text(file)?, &inputs::name_of(file))?;
    Ok(value.unwrap_or_default())
}

fn read_layers_of(file: &Path) -> Result<Vec<Layer>> {
    Ok(read_layers(&read_text(file)?, &inputs::name_of(file))?)
}

impl Image {
    fn spec(&self) -> Result<ImageSpec> {
        let created = canonical_time("--created", &self.created)?;
        let processor = match self.arch.as_deref().filter(|arch| !arch.is_empty()) {
            Some(arch) => Processor::from_any_arch(arch)?,
            None => Processor::of_this_machine()?,
        };
        let config = ImageConfig::from_value(read(Some(&self.config))?);
        let (config, unknown) = config.with_context(|| inputs::name_of(&self.config))?;
        for key in unknown {
            say(format!("warning: {key} is not part of OCI's image config and is left out of the image"));
        }
        for doubt in doubts(&config) {
            say(format!("warning: {doubt}"));
        }
        let mut spec = ImageSpec {
            version: 1,
            config,
            layers: Vec::new(),
            arch: processor.to_string(),
            created: Some(created),
            annotations: BTreeMap::new(),
        };
        if let Some(file) = named(self.from_image.as_deref()) {
            let base = inputs::spec(file).context("--from-image")?;
            let platform = base.platform();
            let known = !platform.architecture.is_empty();
            if platform.os != LINUX || (known && !processor.runs(&platform.processor())) {
                say(format!(
                    "warning: the base image is for {platform}, and the image is for linux/{processor}"
                ));
            }
            spec.layers = base.layers;
            let (file, count) = (file.display(), spec.layers.len());
            say(format!("Using base image {file} containing {count} layers"));
        }
        for file in &self.layers {
            for layer in read_layers_of(file)? {
                let (digest, count) = (layer.digest, spec.layers.len());
                spec.push(layer);
                if spec.layers.len() > count {
                    say(format!("Adding layer {digest} from {}", file.display()));
                }
            }
        }
        Ok(spec)
    }
}

impl Layers {
    fn write(&self, tar_directory: Option<&Path>, debug: bool) -> Result<()> {
        if self.max_layers == 0 {
            return Err(misused("--max-layers is 0: there is at least one layer"));
        }
        let closure = inputs::closure_of_one_store(&self.graph)?;
        let parents = self.parents.iter().map(|file| read_layers_of(file)).collect::<Result<Vec<_>>>()?;
        let rewrites: Vec<RewritePath> = read(named(self.rewrites.as_deref())).context("--rewrites")?;
        let perms: Vec<GoPermPath> = read(named(self.perms.as_deref())).context("--perms")?;
        let perms: Vec<PermPath> = perms.into_iter().map(|GoPermPath(perm)| perm).collect();
        let mut history: History = read(named(self.history.as_deref())).context("--history")?;
        history.created = history.created.map(|time| canonical_time("created", &time)).transpose()?;
        for (at, perm) in perms.iter().enumerate() {
            let place = format!("perms[{at}]");
            perm.perm.check(&perm.path, &place)?;
        }
        let ignored = named(self.ignore.as_deref());
        let ignored = ignored.iter().map(|path| StorePath::parse(&path.to_string_lossy()));
        let ignore = ignored.collect::<Result<Vec<_>, _>>().context("--ignore")?;
        let options = plan::Options {
            strategy: plan::Strategy::Popularity,
            max_layers: self.max_layers,
            rewrites: &rewrites,
            perms: &perms,
            ignore: &ignore,
            parents: parents.iter().flatten().flat_map(|layer| &layer.paths).collect(),
            ..plan::Options::default()
        };
        let plan = plan::plan(&closure, &options)?;
        report_excluded(&closure, &plan, &ignore)?;
        if debug {
            plan.iter().flatten().for_each(|path| say(format!("Packing {}", path.path)));
        }
        let plans: Vec<_> =
            plan.into_iter().map(|paths| LayerPlan { paths, history: history.clone() }).collect();
        // Inside of a derivation, as many threads as Nix allows.
        let jobs = std::env::var("NIX_BUILD_CORES").ok().and_then(|cores| cores.parse().ok()).unwrap_or(0);
        let stop = super::stop_flag()?;
        let packing = Packing {
            codec: Codec::None,
            closure: &closure,
            // Files lie where paths say, whatever the store's directory is.
            store: &Store::at("/nix/store"),
            packer: &Packer::new(jobs),
            control: &Control::new(&stop, &()),
        };
        if let Some(folder) = tar_directory {
            let shown = || format!("--tar-directory {}", inputs::name_of(folder));
            let is_folder = fs::metadata(folder).with_context(shown)?.is_dir();
            ensure!(is_folder, "{} is not a directory", shown());
        }
        let layers = packing.pack_into(plans, tar_directory)?;
        for layer in &layers {
            let (count, size, digest) = (layer.paths.len(), layer.size, layer.digest);
            say(format!("Adding {count} paths to layer (size:{size} digest:{digest})"));
        }
        super::output::write(Some(&self.output), &write_layers(&layers))?;
        say(format!("Layers have been written to {}", self.output.display()));
        Ok(())
    }
}

fn report_excluded(closure: &Closure, plan: &[Vec<PlannedPath>], ignore: &[StorePath]) -> Result<()> {
    let packed: HashSet<&StorePath> = plan.iter().flatten().map(|path| &path.path).collect();
    for path in plan::by_popularity(closure)?.iter().filter(|path| !packed.contains(path)) {
        if ignore.contains(path) {
            say(format!("Excluding path {path} from layer"));
        } else {
            say(format!("Excluding path {path} because already present in a parent layer"));
        }
    }
    Ok(())
}
