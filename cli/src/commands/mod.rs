//! One module a subcommand, and what they share: reading their inputs, steering the packer.

pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod container;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod init;
mod inputs;
pub(crate) mod inspect;
mod layering;
pub(crate) mod layout;
mod lock_file;
mod loopback;
pub(crate) mod man;
pub(crate) mod n2c;
pub(crate) mod nix_database;
pub(crate) mod plan;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod skopeo;
pub(crate) mod strategies;
mod values;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::Result;
use clap::builder::FalseyValueParser;
use nixply_packer::Error;
use nixply_packer::cache::Cache;
use nixply_packer::closure::{Closure, Store, StorePath};
use nixply_packer::pack::Packer;
use nixply_packer::request::{FleetRequest, ImageRequest};
use serde::Serialize;

use crate::interrupt::stop_flag;
use crate::nix;
use crate::output::{self, print};
use crate::report::{Format, Report};
use crate::terminal::human;

/// A variable's name for clap, which would take an empty value for one: to everybody else it is no value.
fn unless_empty(name: &'static str) -> Option<&'static str> {
    std::env::var_os(name).is_none_or(|value| !value.is_empty()).then_some(name)
}

/// Where store paths are, and how many threads read them.
#[derive(clap::Args)]
pub(crate) struct Machine {
    /// The store directory as store paths name it [default: that of the image's spec, if it lies in one, else /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    /// Where that directory lies on this machine, if elsewhere (a chroot store's DIR/nix/store)
    #[arg(long, value_name = "DIR")]
    real_store_dir: Option<PathBuf>,

    /// Threads to pack with; 0 is one for each core
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = values::count, allow_negative_numbers = true)]
    jobs: usize,

    /// Compare store paths, as they are read, with the hashes by which Nix knows them, and files' modes with those that Nix
    /// leaves; keep nothing that differs. Hashes each byte a second time, and packs again what was packed without this flag
    #[arg(long, env = "NIXPLY_CHECK_STORE", value_parser = FalseyValueParser::new())]
    check_store: bool,
}

impl Machine {
    fn store(&self) -> Store {
        self.store_at("/nix/store")
    }

    /// The store of an image: what nobody has named is where its spec lies, perhaps behind a link such as `result`.
    fn store_of(&self, spec: &Path) -> Store {
        self.store_at(&store_dir_of(spec))
    }

    fn store_at(&self, default: &str) -> Store {
        let mut store = self.store_dir.clone().unwrap_or_else(|| Store::at(default));
        if let Some(real_dir) = &self.real_store_dir {
            store.real_dir.clone_from(real_dir);
        }
        store
    }

    fn packer(&self, cache: Option<Cache>) -> Packer {
        Packer::new(self.jobs).with_cache(cache).with_store_check(self.check_store)
    }
}

/// The store that a spec lies in, perhaps behind a link such as `result`; elsewhere, Nix's usual one.
fn store_dir_of(spec: &Path) -> String {
    let real = fs::canonicalize(spec).ok();
    let dir = real.as_deref().and_then(Path::parent).and_then(Path::to_str);
    match dir.zip(real.as_deref().and_then(Path::to_str)) {
        Some((dir, spec)) if Store::at(dir).check(spec).is_ok() => dir.to_owned(),
        _ => "/nix/store".to_owned(),
    }
}

/// How a report is printed.
#[derive(clap::Args)]
pub(crate) struct Printed {
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// Show at most so many rows of each list; 0 shows all, as JSON always does [default: 10, in Markdown 50]
    #[arg(long, value_name = "N", value_parser = values::count, allow_negative_numbers = true)]
    most: Option<usize>,
}

impl Printed {
    /// How many rows a list may have.
    fn most(&self) -> usize {
        match (self.most, self.format) {
            (Some(0), _) | (_, Format::Json) => usize::MAX,
            (Some(most), _) => most,
            (None, Format::Text) => 10,
            (None, Format::Markdown) => 50,
        }
    }

    /// Prints what was found out: as JSON the data itself, with the version of its fields ahead.
    fn print(&self, data: &impl Serialize, report: impl FnOnce() -> Report) -> Result<()> {
        print(match self.format {
            Format::Text => report().text(AutoStream::choice(&io::stdout()) != ColorChoice::Never),
            Format::Markdown => report().markdown(),
            Format::Json => {
                #[derive(Serialize)]
                struct Versioned<'d, D> {
                    version: u32,
                    #[serde(flatten)]
                    data: &'d D,
                }
                let versioned = Versioned { version: REPORT_VERSION, data };
                format!("{}\n", serde_json::to_string_pretty(&versioned)?)
            }
        })
    }
}

/// The version of the fields in docs/reports.md. Fields may be added without another.
const REPORT_VERSION: u32 = 1;

/// How much is told.
#[derive(clap::Args)]
pub(crate) struct Talk {
    /// Tell nothing of how it goes; warnings and errors are told
    #[arg(short, long)]
    quiet: bool,
}

/// An image request and its closure.
#[derive(clap::Args)]
pub(crate) struct Input {
    /// The image as JSON, with the arguments of builtins.nixplyImage (store paths in the config are found by
    /// themselves); `-` reads standard input
    #[arg(value_name = "REQUEST.json")]
    request: PathBuf,

    /// The closure as JSON (nix path-info --json --recursive, or a derivation's exportReferencesGraph); without it, nix
    /// is asked
    #[arg(long, value_name = "FILE")]
    closure: Option<PathBuf>,
}

impl Input {
    fn read(&self, store: &Store) -> Result<(ImageRequest, Closure)> {
        store.check_owner()?;
        let mut request = inputs::request(&self.request)?;
        let closure = self.closure_of(vec![&mut request], store)?;
        Ok((request, closure))
    }

    /// Several requests, by image, and the closure of them all.
    fn read_fleet(&self, store: &Store) -> Result<(FleetRequest, Closure)> {
        store.check_owner()?;
        let mut fleet = inputs::fleet(&self.request)?;
        let closure = self.closure_of(fleet.images().values_mut().collect(), store)?;
        Ok((fleet, closure))
    }

    /// The closure of all requests, whose configs may name store paths.
    fn closure_of(&self, requests: Vec<&mut ImageRequest>, store: &Store) -> Result<Closure> {
        let given = self.closure.as_deref().map(|file| inputs::closure(file, store)).transpose()?;
        closure_of(given, requests, store)
    }

    /// As [`of_request`].
    fn within<T>(&self, planned: nixply_packer::Result<T>) -> Result<T> {
        planned.map_err(|error| of_request(error, &self.request, self.closure.as_deref()))
    }
}

/// An error of a request's plan, with the name of the document that it is about: the request's, or the closure's.
fn of_request(error: Error, file: &Path, closure: Option<&Path>) -> anyhow::Error {
    let document = match &error {
        Error::NotInClosure { .. } | Error::Cycle(_) => closure,
        Error::Invalid { .. }
        | Error::Document(_)
        | Error::LockFile { .. }
        | Error::NotInLock { .. }
        | Error::NotSpec { .. }
        | Error::OfImage { .. }
        | Error::StorePath(_)
        | Error::Unreadable { .. } => Some(file),
        _ => None,
    };
    let error = anyhow::Error::from(error);
    match document {
        Some(document) => error.context(inputs::name_of(document)),
        None => error,
    }
}

/// The closure of requests whose configs may name store paths: the `given` one, or what Nix knows.
fn closure_of(
    given: Option<Closure>,
    mut requests: Vec<&mut ImageRequest>,
    store: &Store,
) -> Result<Closure> {
    let exists = |path: &StorePath| match &given {
        Some(closure) => closure.get(path).is_some(),
        None => fs::symlink_metadata(store.real_path(path)).is_ok(),
    };
    for request in &mut requests {
        request.find_config_roots(store, exists);
    }
    let roots = requests.iter().flat_map(|request| request.roots());
    given.map_or_else(|| nix::closure(roots, "the store paths of the request must be built"), Ok)
}
