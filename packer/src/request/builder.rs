//! The builder frontend: it reads a request from a derivation's structured attributes, and makes the derivation's output.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nixply_documents::{document, go_json};
use nixply_files::open;
use nixply_planning::{Closure, Store, StorePath};
use serde::Deserialize;
use serde_json::Value;

use super::fleet::FleetRequest;
use super::image::ImageRequest;
use super::index::IndexRequest;
use super::nix_database::NixDatabaseRequest;
use super::pack::LayersRequest;
use super::plan::BuiltImage;
use crate::error::{Error, Result};
use crate::image::description::without_references;
use crate::pack::Packing;

/// Name of the output with the description.
const DESCRIPTION: &str = "description";

/// Input of the builder frontend: a derivation's structured attributes.
///
/// Two derivations make an image. The first has the attribute `config`, and its output is a file with that config, so Nix
/// knows which store paths the config names. The second has `request` (without the config), `configFile` (the output of the
/// first one), optionally `healthcheckFile` (the same kind of file) and `closure`, the name in `exportReferencesGraph`. A
/// derivation for several images has `requests` instead: an object by output name, each value with these three attributes. A
/// third kind makes layers without an image: it has `layers` and `closure`, and its output is a directory. A fourth kind
/// makes a Nix database: it has `nixDatabase` and `closure`, and its output is a directory too. A fifth kind makes the spec of an
/// image index: it has `index`, an [`IndexRequest`], and `closure`. A sixth kind makes a package with a shell script: it has
/// `script`, and its output is a directory with `bin/NAME`.
///
/// A derivation of an image or of layers may have a second output, `description`: the same JSON without references. For several
/// images, it is `NAME=description`. No image's name has an equals sign.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuilderInput {
    outputs: serde_json::Map<String, Value>,
    #[serde(default)]
    requests: Option<BTreeMap<String, RequestInput>>,
    #[serde(flatten)]
    alone: RequestInput,
    #[serde(default)]
    layers: Option<Value>,
    #[serde(default)]
    index: Option<Value>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    nix_database: Option<NixDatabaseRequest>,
    #[serde(default)]
    script: Option<Script>,
    #[serde(default)]
    closure: Option<Value>,
}

/// A shell script.
#[derive(Debug, Deserialize)]
struct Script {
    name: String,
    text: String,
}

/// The parts of an image's request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestInput {
    #[serde(default)]
    request: Option<Value>,
    #[serde(default)]
    config_file: Option<String>,
    #[serde(default)]
    healthcheck_file: Option<String>,
}

/// The job of a derivation.
#[derive(Debug)]
pub enum BuilderJob {
    /// A job for the packer.
    Packing(Box<PackingJob>),
    /// A directory with a Nix database. The caller makes it.
    NixDatabase {
        /// The directory to make.
        output: PathBuf,
        /// The paths to register. Some may have references that are not among them.
        paths: Closure,
    },
}

/// A job for the packer: see [`BuilderJob`].
#[derive(Debug)]
pub struct PackingJob {
    input: BuilderInput,
    closure: Closure,
}

impl BuilderInput {
    /// Reads `.attrs.json`.
    pub fn from_attrs(json: &str) -> Result<Self> {
        Ok(document::read(json, "structured attributes")?)
    }

    /// Returns the job of the derivation.
    pub fn job(mut self, store: &Store) -> Result<BuilderJob> {
        let read = |closure| Closure::of_value(closure, "attribute closure", store);
        let closure = self.closure.take().map(read).transpose()?.unwrap_or_default();
        Ok(match &self.nix_database {
            Some(request) => BuilderJob::NixDatabase {
                output: self.output("out")?,
                paths: request.paths(&closure, store)?,
            },
            None => BuilderJob::Packing(Box::new(PackingJob { input: self, closure })),
        })
    }

    fn output(&self, name: &str) -> Result<PathBuf> {
        let output = self.optional_output(name);
        output.ok_or_else(|| Error::invalid("attribute outputs", format!("it has no output {name}")))
    }

    fn optional_output(&self, name: &str) -> Option<PathBuf> {
        self.outputs.get(name).and_then(Value::as_str).map(PathBuf::from)
    }

    /// Writes an image's spec, and its description if the derivation has an output for it.
    fn write_image(&self, output: &str, description: &str, built: &BuiltImage) -> Result<()> {
        write(&self.output(output)?, &built.json)?;
        self.optional_output(description).map_or(Ok(()), |file| write(&file, &built.description()))
    }
}

fn write(output: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(output, bytes).map_err(|source| Error::io("write file", output, source))
}

impl PackingJob {
    /// Makes the derivation's output. Returns warnings.
    pub fn run(self, packing: &Packing<'_>) -> Result<Vec<String>> {
        let Self { input, closure } = self;
        let store = packing.store;
        if let Some(requests) = &input.requests {
            let read = |(name, image): (&String, &RequestInput)| {
                Ok((name.clone(), image.read(&format!("attribute requests.{name}"), &closure, store)?))
            };
            let fleet = FleetRequest::new(requests.iter().map(read).collect::<Result<_>>()?)?;
            let mut warnings = Vec::new();
            for (name, built) in fleet.build(&closure, packing)? {
                input.write_image(&name, &format!("{name}={DESCRIPTION}"), &built)?;
                warnings.extend(built.warnings);
            }
            return Ok(warnings);
        }
        let output = input.output("out")?;
        if let Some(config) = &input.config {
            return write(&output, &go_json::compact(config)).map(|()| Vec::new());
        }
        if let Some(script) = &input.script {
            return script.write(&output).map(|()| Vec::new());
        }
        let description = input.optional_output(DESCRIPTION);
        if let Some(layers) = input.layers {
            let request = LayersRequest::from_value(layers, "attribute layers")?;
            let (json, warnings) = request.write(&output, &closure, packing)?;
            if let Some(file) = description {
                write(&file, &without_references(&json))?;
            }
            return Ok(warnings);
        }
        if let Some(index) = input.index {
            let request = IndexRequest::from_value(index, "attribute index")?;
            let built = request.build(&closure, store)?;
            if let Some(file) = description {
                write(&file, &built.description())?;
            }
            return write(&output, &built.json).map(|()| Vec::new());
        }
        if input.alone.request.is_none() {
            return Err(Error::invalid(
                "structured attributes",
                "expected an attribute request, requests, layers, index, config, script or nixDatabase",
            ));
        }
        let request = input.alone.read("attribute request", &closure, store)?;
        let built = request.build(&closure, packing)?;
        input.write_image("out", DESCRIPTION, &built)?;
        Ok(built.warnings)
    }
}

impl Script {
    /// Makes the directory of the package.
    fn write(&self, output: &Path) -> Result<()> {
        let directory = output.join("bin");
        fs::create_dir_all(&directory).map_err(|source| Error::io("create directory", &directory, source))?;
        let file = directory.join(&self.name);
        let write = fs::write(&file, &self.text);
        write
            .and_then(|()| fs::set_permissions(&file, PermissionsExt::from_mode(0o755)))
            .map_err(|source| Error::io("write file", &file, source))
    }
}

impl RequestInput {
    /// Returns the complete request. `name` is for messages.
    fn read(&self, name: &str, closure: &Closure, store: &Store) -> Result<ImageRequest> {
        let mut request = ImageRequest::from_value(self.request.clone().unwrap_or_default(), name)?;
        // Returns a file's content, and the store paths that it names.
        let read = |file: &str| {
            let path = store.check(file)?;
            let real = store.real_path(&path);
            let text = open::store_text(&store.real_dir, &real)
                .map_err(|source| Error::io("read the config", &real, source))?;
            let content = document::parse(&text, file)?;
            let named = closure.get(&path).map(|info| &info.references[..]).unwrap_or_default();
            Ok::<_, Error>((content, named.iter().map(StorePath::to_string)))
        };
        if let Some(file) = &self.config_file {
            let (config, named) = read(file)?;
            request.config = config;
            request.config_roots = Some(named.collect());
        }
        if let Some(file) = &self.healthcheck_file {
            let (healthcheck, named) = read(file)?;
            request.healthcheck = Some(healthcheck);
            request.config_roots.get_or_insert_default().extend(named);
        }
        Ok(request)
    }
}
