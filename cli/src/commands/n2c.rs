//! `nixply n2c`: nix2container's command line, for Nix expressions that call it. Arguments, files and messages are those of
//! nix2container's commit 20d33959. docs/nix2container.md lists the bugs of nix2container that are fixed here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nixply_documents::document;
use nixply_oci::{
    History, ImageConfig, LINUX, Platform, Processor, ZERO_TIME, canonical_time, config_warnings,
};
use nixply_packer::request::LayerPlan;
use nixply_packer::{Codec, Control, ImageSpec, Layer, Packer, Packing};
use nixply_planning::{
    Closure, GoPermPath, PermPath, PlannedPath, RewritePath, Store, StorePath, Strategy, plan,
};
use serde::de::DeserializeOwned;

use crate::arguments::values;
use crate::documents::{self, read_text};
use crate::failure::misused;
use crate::output;
use crate::process::stop_flag;
use crate::terminal::say;

/// Run a subcommand of nix2container with its arguments
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print more messages
    #[arg(short, long, global = true)]
    debug: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write an image.json from an image config and layers
    Image(Image),
    /// Write an image.json from a directory of skopeo's dir: transport
    ImageFromDir {
        /// File for the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// The directory; the spec names layer files in it, so pass an absolute path
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Platform to select from an index
        #[arg(long, value_name = "OS/ARCH", value_parser = values::platform)]
        platform: Option<Platform>,
    },
    /// Write an image.json from a manifest and a JSON object with the paths of its blobs by digest
    ImageFromManifest {
        /// File for the spec
        #[arg(value_name = "OUT.json")]
        output: PathBuf,
        /// Manifest, as printed by skopeo inspect --raw
        #[arg(value_name = "MANIFEST.json")]
        manifest: PathBuf,
        /// Paths of the blobs, by the 64 hexadecimal digits of their digests
        #[arg(value_name = "BLOBS.json")]
        blobs: PathBuf,
        /// Platform to select from an index; its manifest must be among the blobs
        #[arg(long, value_name = "OS/ARCH", value_parser = values::platform)]
        platform: Option<Platform>,
    },
    /// Write a layers.json from store paths that build reproducibly
    LayersFromReproducibleStorepaths(Layers),
    /// Write a layers.json from store paths that may not build reproducibly, and keep the layers' tar files
    LayersFromNonReproducibleStorepaths {
        #[command(flatten)]
        layers: Layers,
        /// Directory for the tar files
        #[arg(long, value_name = "DIR")]
        tar_directory: Option<String>,
    },
}

#[derive(clap::Args)]
struct Image {
    /// File for the spec
    #[arg(value_name = "OUT.json")]
    output: PathBuf,
    /// OCI image config; the case of its keys does not matter
    #[arg(value_name = "CONFIG.json")]
    config: PathBuf,
    /// Layers from the bottom up; repeated layers are skipped
    #[arg(value_name = "LAYERS.json", required = true)]
    layers: Vec<PathBuf>,
    /// Spec of the base image; as for all these files, the empty string means none
    #[arg(long, value_name = "IMAGE.json")]
    from_image: Option<String>,
    /// OCI name of the processor [default: this machine's]
    #[arg(long)]
    arch: Option<String>,
    /// Creation time of the image (RFC 3339)
    #[arg(long, value_name = "TIME", default_value = ZERO_TIME)]
    created: String,
}

#[derive(clap::Args)]
struct Layers {
    /// File for the layers
    #[arg(value_name = "OUT.json")]
    output: PathBuf,
    /// Store paths with their references, a list from exportReferencesGraph; its order breaks ties
    #[arg(value_name = "CLOSURE-GRAPH.json")]
    graph: PathBuf,
    /// Layers below these; store paths that they contain with the same rules are omitted
    #[arg(value_name = "PARENT-LAYERS.json")]
    parents: Vec<PathBuf>,
    /// Store path to omit
    #[arg(long, value_name = "PATH")]
    ignore: Option<String>,
    /// JSON list of {path, regex, repl}
    #[arg(long, value_name = "FILE")]
    rewrites: Option<String>,
    /// JSON list of {path, regex, mode, uid, gid, uname, gname}
    #[arg(long, value_name = "FILE")]
    perms: Option<String>,
    /// History entry of the layers: JSON {created, created_by, author, comment, empty_layer}
    #[arg(long, value_name = "FILE")]
    history: Option<String>,
    /// Maximum number of layers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::count, allow_negative_numbers = true)]
    max_layers: usize,
}

/// Runs a command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (output, spec) = match &args.command {
        Command::Image(image) => (&image.output, image.spec()?),
        Command::ImageFromDir { output, directory, platform } => {
            (output, imported(ImageSpec::from_dir(directory, platform.as_ref())?))
        }
        Command::ImageFromManifest { output, manifest, blobs, platform } => {
            let blobs: HashMap<String, PathBuf> =
                document::read(&read_text(blobs)?, &documents::name_of(blobs))?;
            (output, imported(ImageSpec::from_manifest(manifest, &blobs, platform.as_ref())?))
        }
        Command::LayersFromReproducibleStorepaths(layers) => return layers.write(None, args.debug),
        Command::LayersFromNonReproducibleStorepaths { layers, tar_directory } => {
            return layers.write(named(tar_directory.as_deref()), args.debug);
        }
    };
    output::write(Some(output), &spec.write())?;
    say(format!("Image has been written to {}", output.display()));
    Ok(())
}

fn imported(spec: ImageSpec) -> ImageSpec {
    for file in spec.layers.iter().filter_map(|layer| layer.layer_path.as_deref()) {
        say(format!("Adding tar file '{file}' as image layer"));
    }
    spec
}

/// Returns a flag's file. Like nix2container, treats the empty string as none.
fn named(flag: Option<&str>) -> Option<&Path> {
    flag.filter(|name| !name.is_empty()).map(Path::new)
}

/// Reads a JSON file. Like Go, treats null as the default value.
fn read<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let value: Option<T> = document::read(&read_text(file)?, &documents::name_of(file))?;
    Ok(value.unwrap_or_default())
}

fn read_layers_of(file: &Path) -> Result<Vec<Layer>> {
    Ok(Layer::read_all(&read_text(file)?, &documents::name_of(file))?)
}

impl Image {
    fn spec(&self) -> Result<ImageSpec> {
        let created = canonical_time("--created", &self.created)?;
        let processor = match self.arch.as_deref().filter(|arch| !arch.is_empty()) {
            Some(arch) => Processor::from_any_arch(arch)?,
            None => Processor::of_this_machine()?,
        };
        let config = ImageConfig::from_value(read(Some(&self.config))?);
        let (config, unknown) = config.with_context(|| documents::name_of(&self.config))?;
        for key in unknown {
            say(format!("warning: {key} is not part of OCI's image config and is omitted from the image"));
        }
        for warning in config_warnings(&config) {
            say(format!("warning: {warning}"));
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
            let base = documents::spec(file).context("--from-image")?;
            let platform = base.platform();
            let known = !platform.architecture.is_empty();
            if platform.os != LINUX || (known && !processor.runs(&platform.processor())) {
                say(format!(
                    "warning: the base image is for {platform}, but the image is for linux/{processor}"
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
            return Err(misused("--max-layers must be at least 1, got 0"));
        }
        let closure = documents::closure_of_one_store(&self.graph)?;
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
            strategy: Strategy::Popularity,
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
        // In a derivation, use as many threads as Nix allows.
        let jobs = std::env::var("NIX_BUILD_CORES").ok().and_then(|cores| cores.parse().ok()).unwrap_or(0);
        let stop = stop_flag()?;
        // This store maps every path to itself, so paths of any store directory are read under their own names.
        let store = Store::at("/nix/store");
        let (packer, control) = (Packer::new(jobs), Control::new(&stop, &()));
        let packing = Packing::new(&store, &packer, &control);
        if let Some(directory) = tar_directory {
            let shown = || format!("--tar-directory {}", documents::name_of(directory));
            let is_directory = fs::metadata(directory).with_context(shown)?.is_dir();
            ensure!(is_directory, "{} is not a directory", shown());
        }
        let layers = packing.pack_into(plans, Codec::None, &closure, tar_directory)?;
        for layer in &layers {
            let (count, size, digest) = (layer.paths.len(), layer.size, layer.digest);
            say(format!("Adding {count} paths to layer (size:{size} digest:{digest})"));
        }
        output::write(Some(&self.output), &Layer::write_all(&layers))?;
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
