//! The arguments of an image.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use nixply_documents::argument::{Config, Count, Indices, Kind, Optional, Plain, Root, Roots, Word};
use nixply_documents::{document, go_json};
use nixply_oci::{
    Healthcheck, HealthcheckRequest, ImageConfig, Processor, ZERO_TIME, canonical_time, reference,
};
use nixply_planning::Strategy;
use nixply_planning::{PermPath, Store, StorePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::groups::{Groups, check_grouping};
use super::layer::{LayerRequest, check_perms};
use super::nix_database::NixDatabase;
use super::schema::{self, without_nulls};
use crate::compress::Codec;
use crate::error::Result;

/// Key of [`ImageRequest::config_roots`] in JSON.
const CONFIG_ROOTS: &str = "configRoots";

/// Default of `layerLimit`: the limit of overlay file systems in Docker and containerd.
const LAYER_LIMIT: usize = 127;

/// An image request: the argument of `builtins.nixplyImage`, `nix/build-image.nix` and `nixply build`.
///
/// `null` means absent.
// The descriptions below are the documentation of every frontend. A new argument is a field here and its use in `plan.rs`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "nixply image request")]
pub struct ImageRequest {
    /// The image's name. It may begin with a registry's host. The result's `imageName` is the name in lower case, and must be
    /// a name that registries accept. The plugin and `nix/build-image.nix` require a name; in `builtins.nixplyImages` it
    /// defaults to the attribute's name.
    ///
    /// ```nix
    /// name = "ghcr.io/nixply/hello";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The image's tag: 1 to 128 letters, digits, `_`, `.` and `-`. It does not start with `.` or `-`. Default: the hash of
    /// the result's store path.
    ///
    /// ```nix
    /// tag = "1.0";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "reference::Tag")]
    pub tag: Option<String>,

    /// The OCI image config. Keys may be written in any case: `User`, `ExposedPorts`, `Env`, `Entrypoint`, `Cmd`, `Volumes`,
    /// `WorkingDir`, `Labels`, `StopSignal`. Other keys are omitted with a warning. Values that runtimes ignore or
    /// refuse, such as `Env = [ "a" ]` or the port `80/foo`, are kept with a warning, as in nix2container. The image
    /// contains the store paths that the config names, with their closures
    /// ([docs/results.md](results.md#store-paths-in-the-config)).
    ///
    /// ```nix
    /// config = {
    ///   Entrypoint = [ "${pkgs.hello}/bin/hello" ];
    ///   Env = [ "LANG=C.UTF-8" ];
    /// };
    /// ```
    #[serde(default, with = "Config")]
    pub config: Value,

    /// Labels, which are added to the config's `Labels`. A label here replaces one of the same name in `config`, and one of the base
    /// image with `inheritConfig`.
    ///
    /// ```nix
    /// labels = { "org.opencontainers.image.version" = "1.0"; };
    /// ```
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Plain>", extend("x-nixply-container-option" = true))]
    pub labels: BTreeMap<String, String>,

    /// Store paths that the config's text may name (its string context, in Nix). Absent: any store path in the text. This is
    /// no argument of users: only the plugin writes it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub config_roots: Option<Vec<String>>,

    /// Directories whose content the image has at its root. The image also contains their closures.
    ///
    /// ```nix
    /// copyToRoot = [ pkgs.hello pkgs.cacert ];
    /// ```
    #[serde(default, with = "Roots")]
    pub copy_to_root: Vec<String>,

    /// Separate layers below the layer of `config` and `copyToRoot`. Each omits the store paths that an earlier layer has.
    ///
    /// ```nix
    /// layers = [
    ///   { deps = [ pkgs.bash ]; }
    ///   { deps = [ pkgs.python3 ]; maxLayers = 20; }
    /// ];
    /// ```
    #[serde(default)]
    pub layers: Vec<LayerRequest>,

    /// Indices (from 0) of the `layers` whose store paths the layer of `config` and `copyToRoot` omits. Default: all.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.bash; } { deps = pkgs.python3; } ];
    /// parents = [ 0 ];
    /// ```
    #[serde(default, with = "Optional::<Indices>", skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<usize>>,

    /// Maximum number of layers for the store paths that are in none of `layers`.
    ///
    /// ```nix
    /// maxLayers = 100;
    /// ```
    #[serde(default = "one", with = "Count")]
    pub max_layers: usize,

    /// The strategy that groups store paths into layers. Default: `explicit` with `groups`, otherwise `min-churn`.
    /// [docs/strategies.md](strategies.md) compares them.
    ///
    /// ```nix
    /// strategy = "popularity";
    /// ```
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Strategy", extend("x-nixply-container-option" = true))]
    pub strategy: Option<Strategy>,

    /// Groups of store paths for strategy `explicit`. Each is one layer, or several with `maxLayers`. The store paths in no group
    /// share a last layer. All of them count towards `maxLayers`.
    ///
    /// ```nix
    /// groups = [
    ///   { name = "bash.*"; }
    ///   { paths = { minSize = "10 MiB"; }; maxLayers = 5; }
    /// ];
    /// maxLayers = 10;
    /// ```
    #[serde(default, with = "Optional::<Groups>", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub groups: Option<Value>,

    /// A [lock file](lock-files.md), for strategy `min-churn`: store paths stay in the layers where they were. All images of
    /// one `builtins.nixplyImages` that have a lock file must have the same one.
    ///
    /// ```nix
    /// lock = ./nixply.lock.json;
    /// ```
    #[serde(default, with = "Optional::<Root>", skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,

    /// Owners and modes of files in the layer of `config` and `copyToRoot`. Later entries win. An entry that matches a file
    /// sets `uid` and `gid`, to 0 where absent. Other keys are an error. A store path with perms here and without them in one
    /// of `layers` is packed twice ([docs/results.md](results.md#store-paths-that-are-in-the-image-twice)).
    ///
    /// ```nix
    /// perms = [ { path = pkgs.hello; regex = "/bin/.*"; mode = "0755"; uid = 1000; gid = 1000; } ];
    /// copyToRoot = pkgs.hello;
    /// ```
    #[serde(default)]
    pub perms: Vec<PermPath>,

    /// The spec of a [base image](guides/base-images.md). Its layers are the lowest and keep their history. The image
    /// does not pack store paths again that the base image has, unless `strategy` is `popularity`.
    ///
    /// ```nix
    /// fromImage = builtins.nixplyImage { name = "base"; copyToRoot = pkgs.bash; };
    /// ```
    #[serde(default, with = "Optional::<Root>", skip_serializing_if = "Option::is_none")]
    pub from_image: Option<String>,

    /// Allows a base image for another processor or operating system, which otherwise is an error. Use it for base images that
    /// contain only data.
    ///
    /// ```nix
    /// anyPlatform = true;
    /// ```
    #[serde(default)]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub any_platform: bool,

    /// OCI's name of the processor, optionally with a variant, such as `arm64` or `arm/v7`. Default: that of `system`.
    /// Processors for which neither Go, Debian nor Nix builds programs, such as `sparc`, are an error. Images for 32-bit ARM
    /// have a variant ([docs/results.md](results.md#32-bit-arm)).
    ///
    /// ```nix
    /// arch = "arm64";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub arch: Option<String>,

    /// The Nix system of the image's programs, which determines the processor if `arch` is absent. Default: the system of this
    /// machine.
    ///
    /// ```nix
    /// system = "aarch64-linux";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,

    /// The image's creation time, in RFC 3339.
    ///
    /// ```nix
    /// created = "2024-05-13T09:31:10Z";
    /// ```
    #[serde(default = "zero_time", with = "Word")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub created: String,

    /// Annotations of the manifest.
    ///
    /// ```nix
    /// annotations = { "org.opencontainers.image.source" = "https://example.com/hello"; };
    /// ```
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Plain>", extend("x-nixply-container-option" = true))]
    pub annotations: BTreeMap<String, String>,

    /// Uses the base image's config for what `config` does not set, as Docker's `FROM` does. `Env`, `ExposedPorts`, `Volumes`
    /// and `Labels` add to the base image's. Other keys replace the base image's, and an `Entrypoint` also removes its `Cmd`.
    /// An empty value (`Cmd = [ ]`, `User = ""`, `Labels = { }`) clears the base image's; `null` inherits it.
    ///
    /// ```nix
    /// inheritConfig = true;
    /// fromImage = builtins.nixplyImage { name = "base"; config.User = "app"; };
    /// ```
    #[serde(default)]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub inherit_config: bool,

    /// Docker's health check. OCI's config has none, and podman ignores it in OCI images. Times are text such as `"1m30s"`.
    /// With `inheritConfig`, `{ }` clears the base image's.
    ///
    /// ```nix
    /// healthcheck = {
    ///   test = [ "curl" "-f" "http://localhost/" ];
    ///   interval = "30s";
    ///   retries = 3;
    /// };
    /// ```
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HealthcheckRequest", extend("x-nixply-container-option" = true))]
    pub healthcheck: Option<Value>,

    /// The Nix database for a Nix inside the image. The content of `path` is at the image's root, in a layer above all
    /// others. So `perms` do not affect it, and its owners do not affect files of other layers.
    ///
    /// ```nix
    /// nixDatabase = {
    ///   path = import ./nix/nix-database.nix { inherit nixply; } { copyToRoot = pkgs.hello; };
    ///   uid = 1000;
    ///   gid = 1000;
    /// };
    /// ```
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NixDatabase")]
    pub nix_database: Option<NixDatabase>,

    /// Compression of the layers, optionally with a level. With compression, the spec has the digests of the compressed layers,
    /// so that nixply need not pack a layer to find out whether a registry has it.
    ///
    /// ```nix
    /// compression = "zstd:9";
    /// ```
    #[serde(default)]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub compression: Codec,

    /// Maximum number of layers in the whole image, including the base image's. More layers are an error. The default is the
    /// limit of overlay file systems in Docker and containerd.
    ///
    /// ```nix
    /// layerLimit = 200;
    /// ```
    #[serde(default = "layer_limit", with = "Count")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub layer_limit: usize,
}

pub(super) fn one() -> usize {
    1
}

fn zero_time() -> String {
    ZERO_TIME.into()
}

fn layer_limit() -> usize {
    LAYER_LIMIT
}

impl ImageRequest {
    /// Reads a request. `name` names the document in messages.
    pub fn from_json(json: &str, name: &str) -> Result<Self> {
        Self::from_value(document::parse(json, name)?, name)
    }

    /// The JSON Schema (draft 2020-12) of a request.
    pub fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::of_type::<ImageRequest>);
        &SCHEMA
    }

    /// The request itself, as a place in its schema.
    pub fn argument() -> schema::Argument {
        schema::Argument::of(Self::schema())
    }

    pub(super) fn from_value(mut value: Value, name: &str) -> Result<Self> {
        // serde does not know the key, so messages do not suggest it. The plugin always writes a list; other values are an error.
        let roots =
            value.as_object_mut().filter(|object| object.get(CONFIG_ROOTS).is_some_and(Value::is_array));
        let roots = roots.and_then(|object| object.remove(CONFIG_ROOTS));
        let roots = roots.map(|roots| document::fill_at(roots, name, CONFIG_ROOTS)).transpose()?;
        let mut request: Self = document::fill(without_nulls(value, Self::argument()), name)?;
        request.config_roots = roots;
        request.check().map_err(|error| error.in_document(name))?;
        Ok(request)
    }

    /// Checks everything that needs neither a store nor a closure.
    pub(super) fn check(&self) -> Result<()> {
        self.name.as_deref().map(reference::canonical_name).transpose()?;
        self.tag.as_deref().map(reference::check_tag).transpose()?;
        canonical_time("created", &self.created)?;
        self.processor()?;
        ImageConfig::from_value(self.config.clone())?;
        self.healthcheck.clone().map(Healthcheck::from_request).transpose()?;
        check_grouping("", self.strategy, self.groups.as_ref(), self.lock.is_some())?;
        check_perms(&self.perms, "")?;
        let mut layers = self.layers.iter().enumerate();
        layers.try_for_each(|(at, layer)| layer.check(&format!("layers[{at}].")))
    }

    /// Uses the store paths in the config's text as its roots, unless the request names roots. This is for callers whose text
    /// has no string context: with a context, a path may be in the text without being a dependency. A text that only looks
    /// like a store path does not satisfy `exists`; the plan warns about it.
    pub fn find_config_roots(&mut self, store: &Store, exists: impl Fn(&StorePath) -> bool) {
        let text = self.config_text();
        let found = store.paths_in(&text).filter_map(|path| store.shortened(&path).find(&exists));
        self.config_roots.get_or_insert_with(|| found.map(|path| path.to_string()).collect());
    }

    /// Returns the image's processor.
    pub(super) fn processor(&self) -> Result<Processor> {
        Ok(match (&self.arch, &self.system) {
            (Some(arch), _) => Processor::from_arch(arch)?,
            (None, Some(system)) => Processor::of_system(system)?,
            (None, None) => Processor::of_this_machine()?,
        })
    }

    /// Returns all text of the config that may name store paths.
    pub(super) fn config_text(&self) -> Vec<u8> {
        let mut text = go_json::compact(&self.config);
        if let Some(healthcheck) = &self.healthcheck {
            text.extend(go_json::compact(healthcheck));
        }
        text
    }
}
