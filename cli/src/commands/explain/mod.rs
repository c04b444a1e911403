//! `nixply explain`.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use nixply_documents::wording;
use nixply_planning::plan::Name;
use nixply_planning::{Store, StorePath};
use nixply_reports::explain::{Explained, Found, Labels};

use crate::arguments::{ReportArgs, closure_of, store_dir_of, unless_empty, values, with_document_name};
use crate::documents::{self, SpecOrRequest, lock_file};
use crate::failure::hinted;
use crate::nix;
use crate::terminal::{count, warning};

/// Show what makes an image large, or why it contains a store path
///
/// For a store path, also shows what it brings with it, and which layer contains it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Image spec (image.json or a result link), or a request like that of `nixply plan`
    #[arg(value_name = "IMAGE.json")]
    image: PathBuf,

    /// Store path of the image, its hash, its name with or without version, or part of its name; openssl:dev names an output
    #[arg(value_name = "PATH")]
    path: Option<String>,

    /// Closure as JSON, from `nix path-info --json --recursive` or a derivation's exportReferencesGraph [default: ask Nix]
    #[arg(long, value_name = "FILE")]
    closure: Option<PathBuf>,

    /// Lock file that assigns a request's paths to layers
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// Store directory that store paths start with [default: the directory of the image's spec if that is a store, otherwise
    /// /nix/store]
    #[arg(long, value_name = "DIR", env = unless_empty("NIX_STORE_DIR"), value_parser = values::store)]
    store_dir: Option<Store>,

    #[command(flatten)]
    report: ReportArgs,
}

/// Maximum number of candidates in a message.
const CANDIDATES: usize = 10;

pub(crate) fn run(args: &Args) -> Result<()> {
    let image = args.image.display().to_string();
    let explained = read(args, &image)?;
    let labels = explained.labels();
    let most = args.report.most();
    let Some(text) = &args.path else {
        let overview = explained.overview(most);
        return args.report.print(&overview, || report::of_image(&image, &overview, &labels, most));
    };
    let path = match explained.find(text) {
        Found::One(path) => path,
        Found::Several(paths) => {
            let what = format!("{} matches {} of {image}", wording::quoted(text), count(paths.len(), "path"));
            let error = anyhow!("{what}: {}", listed(&paths, &labels));
            return Err(hinted(error, "pass more of the name, or the start of the hash"));
        }
        Found::Nothing => {
            let error = anyhow!("no store path of {image} matches {}", wording::quoted(text));
            let near = nearest(text, &explained);
            return Err(match near.is_empty() {
                true => hinted(error, format!("list all paths with nixply explain {image} --most 0")),
                false => hinted(error, format!("similar names: {}", listed(&near, &labels))),
            });
        }
    };
    let found = explained.path(&path).with_context(|| format!("{path} is not in the closure"))?;
    args.report.print(&found, || report::of_path(&found, explained.layer_count(), &labels, most))
}

fn read(args: &Args, name: &str) -> Result<Explained> {
    let store = args.store_dir.clone().unwrap_or_else(|| Store::at(store_dir_of(&args.image)));
    let file = documents::spec_or_request(&args.image)?;
    let given = args.closure.as_deref().map(|file| documents::closure(file, &store)).transpose()?;
    if let SpecOrRequest::Spec(spec) = &file {
        ensure!(
            args.lock.is_none(),
            "--lock needs a request, but {name} is an image spec, whose layers are fixed"
        );
        let paths = || spec.layers.iter().flat_map(|layer| &layer.paths).map(|path| path.path.as_str());
        let otherwise = "build the image, so that its store paths are in the store, or pass their closure with --closure FILE";
        let closure = given.map_or_else(|| nix::closure(paths(), otherwise), Ok)?;
        return Explained::of_spec(spec, &closure, &store)
            .with_context(|| of_closure(args.closure.as_deref(), name));
    }
    let SpecOrRequest::Request(mut request) = file else { unreachable!("a spec was explained above") };
    let closure = closure_of(given, vec![&mut request], &store)?;
    let plan = match &args.lock {
        None => request.plan(&closure, &store),
        Some(file) => request.plan_by(&lock_file::existing(file)?, &closure, &store),
    };
    let plan = plan.map_err(|error| with_document_name(error, &args.image, args.closure.as_deref()))?;
    plan.warnings.iter().for_each(warning);
    Ok(Explained::of_plan(&request, &plan, &closure, &store)?)
}

/// Context of an error about the closure.
fn of_closure(file: Option<&Path>, image: &str) -> String {
    match file {
        Some(file) => format!("the closure {} does not match {image}", file.display()),
        None => format!("the closure that Nix knows does not match {image}"),
    }
}

fn listed(paths: &[StorePath], labels: &Labels) -> String {
    let mut names: Vec<String> = paths.iter().take(CANDIDATES).map(|path| labels.of(path)).collect();
    if let Some(more) = paths.len().checked_sub(CANDIDATES + 1) {
        names.push(format!("and {} more", more + 1));
    }
    names.join(", ")
}

/// Returns the paths with the most similar names.
fn nearest(text: &str, explained: &Explained) -> Vec<StorePath> {
    const MAX_PATHS: usize = 5;
    let text = text.rsplit('/').next().unwrap_or_default();
    let mut by_name: BTreeMap<&str, BTreeSet<&StorePath>> = BTreeMap::new();
    for path in explained.paths() {
        for name in [path.name(), Name::of(path).package] {
            by_name.entry(name).or_default().insert(path);
        }
    }
    let mut near: Vec<StorePath> = Vec::new();
    for path in wording::near(text, by_name.keys().copied()).into_iter().flat_map(|name| &by_name[name]) {
        if near.len() < MAX_PATHS && !near.contains(path) {
            near.push((*path).clone());
        }
    }
    near
}
