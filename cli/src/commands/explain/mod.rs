//! `nixply explain`.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use nixply_packer::closure::{Store, StorePath};
use nixply_packer::explain::{Explained, Found, Labels};
use nixply_packer::plan::Name;
use nixply_packer::wording;

use super::inputs::{self, SpecOrRequest};
use super::{Printed, lock_file, of_request, store_dir_of, unless_empty, values};
use crate::failure::hinted;
use crate::nix;
use crate::terminal::{count, warning};

/// Show what keeps an image large, or why a store path is in it, what it brings and which layer it shares with what
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image's spec (image.json, or a result link), or a request as `nixply plan` takes it
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// A store path of the image, its hash, its name with or without version, or a part of its name; an output is named as in
    /// openssl:dev
    #[arg(value_name = "PATH")]
    path: Option<String>,

    /// The closure as JSON (nix path-info --json --recursive, or a derivation's exportReferencesGraph); without it, nix
    /// is asked
    #[arg(long, value_name = "FILE")]
    closure: Option<PathBuf>,

    /// Place a request's paths as this lock file says
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// The store directory as store paths name it [default: that of the image's spec, if it lies in one, else /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    #[command(flatten)]
    printed: Printed,
}

/// Of more candidates than these the rest is counted.
const CANDIDATES: usize = 10;

pub(crate) fn run(args: &Args) -> Result<()> {
    let image = args.image.display().to_string();
    let explained = read(args, &image)?;
    let labels = explained.labels();
    let most = args.printed.most();
    let Some(text) = &args.path else {
        let overview = explained.overview(most);
        return args.printed.print(&overview, || report::of_image(&image, &overview, &labels, most));
    };
    let path = match explained.find(text) {
        Found::One(path) => path,
        Found::Several(paths) => {
            let what =
                format!("{} may be any of {} of {image}", wording::quoted(text), count(paths.len(), "path"));
            let error = anyhow!("{what}: {}", listed(&paths, &labels));
            return Err(hinted(error, "give more of the name, or the begin of the hash"));
        }
        Found::Nothing => {
            let error = anyhow!(
                "{image} has no store path {}, and none with that in its name",
                wording::quoted(text)
            );
            let near = nearest(text, &explained);
            return Err(match near.is_empty() {
                true => hinted(error, format!("nixply explain {image} --most 0 lists them")),
                false => hinted(error, format!("similar names are: {}", listed(&near, &labels))),
            });
        }
    };
    let found = explained.path(&path).with_context(|| format!("{path} is not in the closure"))?;
    args.printed.print(&found, || report::of_path(&found, explained.layer_count(), &labels, most))
}

fn read(args: &Args, name: &str) -> Result<Explained> {
    let store = args.store_dir.clone().unwrap_or_else(|| Store::at(store_dir_of(&args.image)));
    let file = inputs::spec_or_request(&args.image)?;
    let given = args.closure.as_deref().map(|file| inputs::closure(file, &store)).transpose()?;
    if let SpecOrRequest::Spec(spec) = &file {
        ensure!(
            args.lock.is_none(),
            "--lock is for a request: {name} is an image's spec, whose layers are what they are"
        );
        let paths = || spec.layers.iter().flat_map(|layer| &layer.paths).map(|path| path.path.as_str());
        let otherwise =
            "the image's store paths must be in the store; else give their closure with --closure FILE";
        let closure = given.map_or_else(|| nix::closure(paths(), otherwise), Ok)?;
        return Explained::of_spec(spec, &closure, &store)
            .with_context(|| of_closure(args.closure.as_deref(), name));
    }
    let SpecOrRequest::Request(mut request) = file else { unreachable!("specs are done") };
    let exists = |path: &StorePath| match &given {
        Some(closure) => closure.get(path).is_some(),
        None => fs::symlink_metadata(store.real_path(path)).is_ok(),
    };
    request.find_config_roots(&store, exists);
    let roots = request.roots();
    let closure = given.map_or_else(
        || nix::closure(roots.iter().map(String::as_str), "the store paths of the request must be built"),
        Ok,
    )?;
    let plan = match &args.lock {
        None => request.plan(&closure, &store),
        Some(file) => request.plan_by(&lock_file::existing(file)?, &closure, &store),
    };
    let plan = plan.map_err(|error| of_request(error, &args.image, args.closure.as_deref()))?;
    plan.warnings.iter().for_each(warning);
    Ok(Explained::of_plan(&request, &plan, &closure, &store)?)
}

/// Which closure was of no use.
fn of_closure(file: Option<&Path>, image: &str) -> String {
    match file {
        Some(file) => format!("{} is of no use for {image}", file.display()),
        None => format!("what Nix says is of no use for {image}"),
    }
}

fn listed(paths: &[StorePath], labels: &Labels) -> String {
    let mut names: Vec<String> = paths.iter().take(CANDIDATES).map(|path| labels.of(path)).collect();
    if let Some(more) = paths.len().checked_sub(CANDIDATES + 1) {
        names.push(format!("and {} more", more + 1));
    }
    names.join(", ")
}

/// The paths whose names are most like a text, if any are.
fn nearest(text: &str, explained: &Explained) -> Vec<StorePath> {
    const MOST: usize = 5;
    let text = text.rsplit('/').next().unwrap_or_default();
    let mut by_name: BTreeMap<&str, BTreeSet<&StorePath>> = BTreeMap::new();
    for path in explained.paths() {
        for name in [path.name(), Name::of(path).package] {
            by_name.entry(name).or_default().insert(path);
        }
    }
    let mut near: Vec<StorePath> = Vec::new();
    for path in wording::near(text, by_name.keys().copied()).into_iter().flat_map(|name| &by_name[name]) {
        if near.len() < MOST && !near.contains(path) {
            near.push((*path).clone());
        }
    }
    near
}
