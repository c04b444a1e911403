//! The ways to get an image of a closure into a registry, each as its users go it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::closures::{Change, Closure, Info};
use super::measure::{Background, Usage, measure};
use crate::host::{self, say};
use crate::services::{Registry, unmount_below};

/// How layers are compressed, by all contenders at the level 1: what their defaults are is another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Codec {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// skopeo's and buildah's name for it.
    fn format(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// With the level, as in results.
    pub(crate) fn name(self) -> String {
        format!("{}:1", self.format())
    }
}

/// A runner: a machine with its caches, which pushes to a registry that nobody else uses.
pub(crate) struct Runner {
    /// The registry, which outlives what the runner has.
    pub registry: Registry,
    /// What a fresh runner does not have.
    folder: tempfile::TempDir,
    /// What a fresh runner may be given: specs of images.
    specs: tempfile::TempDir,
}

impl Runner {
    /// A fresh runner with an empty registry.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let folder = || tempfile::Builder::new().prefix("runner-").tempdir_in(scratch);
        Ok(Self { registry: Registry::start_in(scratch)?, folder: folder()?, specs: folder()? })
    }

    /// Replaces the runner by a fresh one; the registry stays.
    pub(crate) fn forget(&self) -> Result<()> {
        unmount_below(self.folder.path());
        for entry in fs::read_dir(self.folder.path())? {
            super::closures::tree::remove_tree(&entry?.path())?;
        }
        Ok(())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self, tag: &str) -> PathBuf {
        self.specs.path().join(format!("{tag}.json"))
    }

    fn destination(&self, tag: &str) -> String {
        format!("docker://{}/bench:{tag}", self.registry.address)
    }

    /// A program of the containers/image family that remembers blobs in the runner's folder. For root there is one place
    /// for that, unless it believes to be started for someone else.
    fn remembering(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("_CONTAINERS_ROOTLESS_UID", "1").env("XDG_DATA_HOME", self.path("data"));
        command
    }

    fn skopeo_copy(&self, program: &Path) -> Command {
        let mut command = self.remembering(program);
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Err(error) = self.forget() {
            say(format!("a runner's files are left behind: {error:#}"));
        }
    }
}

/// One way.
pub(crate) trait Contender {
    /// Its name in results.
    fn name(&self) -> &'static str;

    /// How many layers its images have.
    fn layers(&self) -> usize {
        LAYERS
    }

    /// Builds the image.
    fn build(&self, runner: &Runner, closure: &Closure, codec: Codec, tag: &str) -> Result<Usage>;

    /// Takes what the spec of a former image tells, if that is of any use.
    fn learn(&self, _runner: &Runner, _tag: &str) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Pushes the image that was built.
    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage>;

    /// Whether this step would show something that no other step shows.
    fn takes(&self, _: &Step) -> bool {
        true
    }

    /// Whether it is there to show an order of magnitude: once is enough then.
    fn is_slow(&self) -> bool {
        false
    }
}

/// A push among others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Its name in results.
    pub scenario: &'static str,
    /// What differs from the first image.
    pub change: Change,
    /// Whether the runner is a fresh one.
    pub fresh: bool,
    /// What comes from elsewhere, as Nix may fetch it.
    pub known: Known,
}

/// What a runner is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// The spec of the image before this change, whose build it may help.
    FormerSpec(Change),
    /// The spec of the image: nothing is built.
    OwnSpec,
}

/// The most layers that images have.
pub(crate) const LAYERS: usize = 100;

/// Where the contenders' programs are.
#[derive(Clone, clap::Args)]
pub(crate) struct Programs {
    /// nix2container's program [default: the one on PATH]
    #[arg(long, value_name = "PATH")]
    nix2container: Option<PathBuf>,

    /// skopeo with nix2container's nix: transport [default: skopeo-nix2container on PATH]
    #[arg(long, value_name = "PATH")]
    nix2container_skopeo: Option<PathBuf>,

    /// The skopeo of those that need no other [default: the one on PATH]
    #[arg(long, value_name = "PATH", default_value = "skopeo", hide_default_value = true)]
    pub skopeo: PathBuf,

    /// A contender who does not take part in pushes, by its name in the tables; may be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
}

impl Programs {
    /// nix2container, if there is one.
    pub(crate) fn nix2container(&self) -> Option<PathBuf> {
        self.nix2container.clone().or_else(|| on_path("nix2container"))
    }

    /// Its skopeo, if there is one.
    pub(crate) fn nix2container_skopeo(&self) -> Option<PathBuf> {
        self.nix2container_skopeo.clone().or_else(|| on_path("skopeo-nix2container"))
    }

    /// nix2container with its skopeo, if there are both; says if not.
    pub(crate) fn nix2container_contender(&self) -> Option<Nix2container> {
        let there = self.nix2container().zip(self.nix2container_skopeo());
        if there.is_none() {
            say(
                "nix2container does not take part: --nix2container and --nix2container-skopeo name its programs",
            );
        }
        there.map(|(program, skopeo)| Nix2container { program, skopeo, form: Form::Flat })
    }

    /// Those who can take part, in the order of their turns; says who cannot.
    pub(crate) fn contenders(&self, nixply: &Nixply) -> Vec<Box<dyn Contender>> {
        let mut all: Vec<Box<dyn Contender>> = vec![Box::new(nixply.clone())];
        if let Some(flat) = self.nix2container_contender() {
            for form in [Form::Flat, Form::Nested, Form::Defaults] {
                all.push(Box::new(Nix2container { form, ..flat.clone() }));
            }
        }
        match on_path("buildah").filter(|_| host::is_root()) {
            Some(program) => all.push(Box::new(Buildah { program })),
            None => say("buildah does not take part: it is not installed, or this is not root"),
        }
        all.push(Box::new(Tar { skopeo: self.skopeo.clone() }));
        all.retain(|contender| !self.without.iter().any(|name| name == contender.name()));
        all
    }
}

/// A program on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// nixply: `nixply build`, then skopeo copies from `nixply serve`.
#[derive(Clone)]
pub(crate) struct Nixply {
    /// The program.
    pub program: PathBuf,
    /// The store of the closures.
    pub store_dir: PathBuf,
    /// What copies.
    pub skopeo: PathBuf,
}

impl Nixply {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).env("NIX_STORE_DIR", &self.store_dir);
        for variable in ["NIXPLY_CACHE_DIR", "NIXPLY_CACHE_SHARED", "NIXPLY_CACHE_LIMIT"] {
            command.env_remove(variable);
        }
        command
    }

    /// Serves the image that was built while somebody takes it, by the command for its reference. Gives also what the server
    /// has said.
    pub(crate) fn serve(
        &self,
        runner: &Runner,
        tag: &str,
        take: impl FnOnce(&str) -> Command,
    ) -> Result<(Usage, String)> {
        let mut serve = self.command("serve");
        serve.arg(runner.spec(tag)).args(["--name", &format!("bench:{tag}")]);
        serve.arg("--cache-dir").arg(runner.path("cache"));
        let (server, reference, started) = Background::start(&serve)?;
        let taken = measure(&take(&reference))?;
        let (mut served, said) = server.stop()?;
        // The user waits for the copy.
        served.seconds = started.as_secs_f64();
        Ok((served + taken, said))
    }

    /// `nixply build` with one layer group; without a cache folder, nothing is remembered.
    pub(crate) fn build_command(
        &self,
        request: &Value,
        closure: &Path,
        cache: Option<&Path>,
        output: &Path,
    ) -> Result<Command> {
        let file = output.with_extension("request");
        fs::write(&file, request.to_string())?;
        let mut command = self.command("build");
        match cache {
            Some(cache) => command.arg("--cache-dir").arg(cache),
            None => command.arg("--no-cache"),
        };
        command.arg(file).arg("--closure").arg(closure).arg("-o").arg(output);
        Ok(command)
    }
}

/// What nixply is asked for.
pub(crate) fn request(roots: &[String], layers: usize, strategy: &str, compression: Option<&str>) -> Value {
    let mut request = json!({
        "layers": [{"deps": roots, "maxLayers": layers, "strategy": strategy}], "arch": "amd64",
    });
    if let Some(compression) = compression {
        request["compression"] = json!(compression);
    }
    request
}

impl Contender for Nixply {
    fn name(&self) -> &'static str {
        "nixply"
    }

    fn build(&self, runner: &Runner, closure: &Closure, codec: Codec, tag: &str) -> Result<Usage> {
        let request = request(std::slice::from_ref(&closure.root), LAYERS, "size", Some(&codec.name()));
        let cache = runner.path("cache");
        measure(&self.build_command(&request, &closure.file, Some(&cache), &runner.spec(tag))?)
    }

    fn learn(&self, runner: &Runner, tag: &str) -> Result<Usage> {
        let mut import = self.command("cache");
        measure(import.arg("import").arg(runner.spec(tag)).arg("--cache-dir").arg(runner.path("cache")))
    }

    fn push(&self, runner: &Runner, _: Codec, tag: &str) -> Result<Usage> {
        let copied = self.serve(runner, tag, |reference| {
            let mut copy = runner.skopeo_copy(&self.skopeo);
            copy.arg("--src-tls-verify=false")
                .arg(format!("docker://{reference}"))
                .arg(runner.destination(tag));
            copy
        })?;
        Ok(copied.0)
    }
}

/// nix2container: its program makes the layers and the image, its skopeo reads the store again to push them. Nested,
/// users split the image by hand: what the app refers to is a layer list of its own, which Nix does not build again as long
/// as it is the same.
#[derive(Clone)]
pub(crate) struct Nix2container {
    program: PathBuf,
    skopeo: PathBuf,
    form: Form,
}

/// How nix2container is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With the codec and level that all have.
    Flat,
    /// The same, in layers that were split by hand.
    Nested,
    /// Without a word on compression: gzip at its skopeo's own level.
    Defaults,
}

impl Nix2container {
    /// Its own skopeo's copy of the image that was built, to wherever.
    pub(crate) fn copy(&self, runner: &Runner, tag: &str) -> Command {
        let mut copy = runner.skopeo_copy(&self.skopeo);
        copy.arg(format!("nix:{}", runner.spec(tag).display()));
        copy
    }

    fn layers_command(&self, output: &Path, graph: &Path, layers: usize) -> Command {
        nix2container_layers(&self.program, output, graph, layers)
    }
}

/// nix2container's command to make layers of a closure.
pub(crate) fn nix2container_layers(program: &Path, output: &Path, graph: &Path, layers: usize) -> Command {
    let mut command = Command::new(program);
    command.arg("layers-from-reproducible-storepaths").arg(output).arg(graph);
    command.args(["--max-layers", &layers.to_string()]);
    command
}

impl Contender for Nix2container {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Flat => "nix2container",
            Form::Nested => "nix2container nested by hand",
            Form::Defaults => "nix2container (default gzip)",
        }
    }

    fn build(&self, runner: &Runner, closure: &Closure, _: Codec, tag: &str) -> Result<Usage> {
        let layers = runner.path("layers.json");
        let config = runner.path("config.json");
        fs::write(&config, "{}")?;
        let mut image = Command::new(&self.program);
        image.arg("image").arg(runner.spec(tag)).arg(config);
        if self.form != Form::Nested {
            return Ok(
                measure(&self.layers_command(&layers, &closure.file, LAYERS))? + measure(image.arg(layers))?
            );
        }
        let mut usage = Usage::default();
        let below: Vec<&Info> = closure.infos.iter().filter(|info| info.path != closure.root).collect();
        let text = serde_json::to_string(&below)?;
        let (graph, deps) = (runner.path("deps-graph.json"), runner.path("deps.json"));
        if fs::read_to_string(&graph).ok().as_ref() != Some(&text) {
            fs::write(&graph, &text)?;
            usage = usage + measure(&self.layers_command(&deps, &graph, LAYERS - 1))?;
        }
        let mut app = self.layers_command(&layers, &closure.file, 1);
        usage = usage + measure(app.arg(&deps))?;
        Ok(usage + measure(image.arg(deps).arg(layers))?)
    }

    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage> {
        let mut copy = self.copy(runner, tag);
        if self.form != Form::Defaults {
            copy.args(["--dest-compress-format", codec.format(), "--dest-compress-level", "1"]);
        }
        measure(copy.arg(runner.destination(tag)))
    }

    fn takes(&self, step: &Step) -> bool {
        // On a fresh runner, nesting does not matter.
        match self.form {
            Form::Flat => true,
            Form::Nested => {
                !step.fresh || matches!((step.change, step.known), (Change::Leaf(_), Known::Nothing))
            }
            Form::Defaults => !step.fresh && matches!(step.change, Change::None | Change::Leaf(_)),
        }
    }
}

/// buildah: the paths are copied into a container, what the app refers to in an image of its own below the app's.
struct Buildah {
    program: PathBuf,
}

impl Buildah {
    fn command(&self, runner: &Runner, shell: &str) -> Command {
        // Of the family, but its storage must know that this is root.
        let mut command = Command::new("sh");
        command.arg("-euc").arg(format!(
            "buildah() {{ {} --root {} --runroot {} \"$@\"; }}\n{shell}",
            self.program.display(),
            runner.path("containers").display(),
            runner.path("run").display(),
        ));
        command.env("TMPDIR", runner.folder.path());
        command
    }
}

impl Contender for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn layers(&self) -> usize {
        2
    }

    fn build(&self, runner: &Runner, closure: &Closure, _: Codec, tag: &str) -> Result<Usage> {
        let list = runner.path("deps.list");
        let below = closure.infos.iter().filter(|info| info.path != closure.root);
        let text: String = below.map(|info| format!("{}\n", info.path)).collect();
        let mut usage = Usage::default();
        let store = Path::new(&closure.root).parent().context("the app is in a store")?;
        let add = |from: &str, copy: &str, name: &str| {
            format!(
                "c=$(buildah from {from})\nm=$(buildah mount $c)\nmkdir -p $m{store}\n{copy} $m{store}\n\
                 buildah umount $c\nbuildah commit --quiet --disable-compression $c {name}\nbuildah rm $c",
                store = store.display()
            )
        };
        if fs::read_to_string(&list).ok().as_ref() != Some(&text) {
            fs::write(&list, &text)?;
            let copy = format!("xargs -a {} cp -a -t", list.display());
            usage = usage + measure(&self.command(runner, &add("scratch", &copy, "deps")))?;
        }
        let copy = format!("cp -a {}", closure.root);
        Ok(usage + measure(&self.command(runner, &add("deps", &copy, tag)))?)
    }

    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage> {
        let push = format!(
            "buildah push --quiet --tls-verify=false --format oci --compression-format {} --compression-level 1 {tag} {}",
            codec.format(),
            runner.destination(tag)
        );
        // Root's memory of blobs is one place for all: a tmpfs lies over it.
        let mounted = format!(
            "mkdir -p {cache}\nmkdir -p /var/lib/containers/cache\nmount --bind {cache} /var/lib/containers/cache\n{push}",
            cache = runner.path("blobs").display()
        );
        let mut unshared = Command::new("unshare");
        let inner = self.command(runner, &mounted);
        unshared.arg("--mount").arg(inner.get_program()).args(inner.get_args());
        measure(unshared.env("TMPDIR", runner.folder.path()))
    }

    fn takes(&self, step: &Step) -> bool {
        // Without its storage it does everything anew, whatever has changed.
        !step.fresh || matches!((step.change, step.known), (Change::Leaf(_), Known::Nothing))
    }

    fn is_slow(&self) -> bool {
        true
    }
}

/// A plain archive: tar makes one layer, skopeo compresses and pushes it.
struct Tar {
    skopeo: PathBuf,
}

impl Contender for Tar {
    fn name(&self) -> &'static str {
        "tar and skopeo"
    }

    fn layers(&self) -> usize {
        1
    }

    fn build(&self, runner: &Runner, closure: &Closure, _: Codec, tag: &str) -> Result<Usage> {
        let (folder, list) = (runner.path("archive"), runner.path("paths.list"));
        if folder.exists() {
            super::closures::tree::remove_tree(&folder)?;
        }
        fs::create_dir(&folder)?;
        fs::write(&list, path_list(closure))?;
        let script = format!(
            "{tar} -C / -cf - -T {list} | tee layer.tar | sha256sum > digest\n\
             printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' \
             $(cut -d' ' -f1 digest) > config.json\n\
             printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"bench:{tag}\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json\n\
             tar -cf image.tar manifest.json config.json layer.tar\nrm layer.tar",
            tar = TAR,
            list = list.display()
        );
        measure(Command::new("sh").arg("-euc").arg(script).current_dir(folder))
    }

    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage> {
        let mut copy = runner.skopeo_copy(&self.skopeo);
        copy.args([
            "--format",
            "oci",
            "--dest-compress-format",
            codec.format(),
            "--dest-compress-level",
            "1",
        ]);
        let archive = runner.path("archive/image.tar");
        ensure!(archive.exists(), "the archive was not built");
        copy.env("TMPDIR", runner.folder.path());
        measure(copy.arg(format!("docker-archive:{}", archive.display())).arg(runner.destination(tag)))
    }

    fn takes(&self, step: &Step) -> bool {
        // It does everything anew, whatever has changed.
        step.known == Known::Nothing
            && matches!((step.change, step.fresh), (Change::None, false) | (Change::Leaf(_), _))
    }

    fn is_slow(&self) -> bool {
        true
    }
}

/// GNU tar with the metadata that images have.
pub(crate) const TAR: &str = "tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner";

/// The closure's paths as tar takes them, relative to the root.
pub(crate) fn path_list(closure: &Closure) -> String {
    closure.infos.iter().map(|info| format!("{}\n", info.path.trim_start_matches('/'))).collect()
}
