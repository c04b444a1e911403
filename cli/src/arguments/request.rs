//! The arguments of commands that read image requests and their closure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nixply_files::Error as FileError;
use nixply_packer::{Error, FleetRequest, ImageRequest};
use nixply_planning::{Closure, Error as PlanningError, Store, StorePath};

use crate::{documents, nix};

/// An image request and its closure.
#[derive(clap::Args)]
pub(crate) struct RequestArgs {
    /// Image request as JSON, with the arguments of builtins.nixplyImage; nixply finds the store paths in its config. `-` reads
    /// standard input
    #[arg(value_name = "REQUEST.json")]
    request: PathBuf,

    /// Closure as JSON, from `nix path-info --json --recursive` or a derivation's exportReferencesGraph [default: ask Nix]
    #[arg(long, value_name = "FILE")]
    closure: Option<PathBuf>,
}

impl RequestArgs {
    /// Reads the request of one image and its closure.
    pub(crate) fn read(&self, store: &Store) -> Result<(ImageRequest, Closure)> {
        store.check_owner()?;
        let mut request = documents::request(&self.request)?;
        let closure = self.closure(vec![&mut request], store)?;
        Ok((request, closure))
    }

    /// Reads the requests of several images, by image name, and the closure of all of them.
    pub(crate) fn read_fleet(&self, store: &Store) -> Result<(FleetRequest, Closure)> {
        store.check_owner()?;
        let mut fleet = documents::fleet(&self.request)?;
        let closure = self.closure(fleet.images().values_mut().collect(), store)?;
        Ok((fleet, closure))
    }

    fn closure(&self, requests: Vec<&mut ImageRequest>, store: &Store) -> Result<Closure> {
        let given = self.closure.as_deref().map(|file| documents::closure(file, store)).transpose()?;
        closure_of(given, requests, store)
    }

    /// Adds the document's name to an error of planning; see [`with_document_name`].
    pub(crate) fn with_document_name<T>(&self, planned: nixply_packer::Result<T>) -> Result<T> {
        planned.map_err(|error| with_document_name(error, &self.request, self.closure.as_deref()))
    }
}

/// Adds the name of the faulty document to an error of planning: the request's, or the closure's.
pub(crate) fn with_document_name(error: Error, request: &Path, closure: Option<&Path>) -> anyhow::Error {
    let document = match &error {
        Error::Planning(PlanningError::NotInClosure { .. } | PlanningError::Cycle(_)) => closure,
        Error::Document(_)
        | Error::File(FileError::Unreadable { .. })
        | Error::Planning(
            PlanningError::LockFile { .. } | PlanningError::NotInLock { .. } | PlanningError::StorePath(_),
        )
        | Error::NotSpec { .. }
        | Error::OfImage { .. } => Some(request),
        _ => None,
    };
    let error = anyhow::Error::from(error);
    match document {
        Some(document) => error.context(documents::name_of(document)),
        None => error,
    }
}

/// Finds the store paths in the configs of `requests`, and returns the closure of all requests: `given`, or the one that Nix knows.
pub(crate) fn closure_of(
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
    let roots: Vec<String> = requests.iter().flat_map(|request| request.roots()).collect();
    let roots = roots.iter().map(String::as_str);
    given.map_or_else(|| nix::closure(roots, "build the request's store paths first"), Ok)
}
