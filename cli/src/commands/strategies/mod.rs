//! `nixply strategies`.

mod report;
mod revisions;

use std::io;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Result, bail};
use nixply_packer::compress::Codec;
use nixply_study::compare::Study;
use nixply_study::history::{Fleet, Propagation, Subject};
use nixply_study::replay::Contender;
use nixply_study::report::{Report, VERSION};
use nixply_study::sizes::Sizes;

use self::revisions::Revisions;
use crate::arguments::{CacheArgs, Verbosity, values};
use crate::failure::misused;
use crate::terminal::Counting;
use crate::{output, process};

/// Compare layer strategies: replay the releases of images with each, and show what that pushes, pulls and shares
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true).multiple(true))]
pub(crate) struct Args {
    /// What to study: a nixply-history (.json, .json.zst), or a folder of closures as nix path-info --json --recursive prints them,
    /// RELEASE.json or RELEASE/IMAGE.json; of a single closure, what a change is expected to move
    #[arg(value_name = "HISTORY", group = "subject")]
    histories: Vec<PathBuf>,

    /// Study a history that is made up, of this seed and sizes: seed=1,packages=2000,images=10,roots=40,releases=50, or some of these
    #[arg(long, value_name = "SPEC", group = "subject", value_parser = fleet)]
    synthetic: Vec<Fleet>,

    /// Study the revisions from A to B of a git repository (HISTORY, or that of the working directory), by first parents: what Nix
    /// builds of each. Those that cannot be built, and those in which no image has changed, are left out
    #[arg(long, value_name = "A..B", group = "subject", requires = "installables", value_parser = revisions)]
    git_revisions: Option<(String, String)>,

    /// With --git-revisions: what to build, as nix build takes it; once for each image
    #[arg(long = "installable", value_name = "INSTALLABLE", requires = "git_revisions")]
    installables: Vec<String>,

    /// With --git-revisions: the file of the repository whose attributes installables are, if it has no flake
    #[arg(long, value_name = "FILE", requires = "git_revisions")]
    file: Option<PathBuf>,

    /// A strategy to compare: popularity, single, size, auto-layer or nixply, which plan each image alone; nixply+fleet, which plans all
    /// images together; nixply+lock, which does so with a lock file that is updated at each release. Can be given several times [default: popularity, auto-layer, size, nixply, nixply+lock]
    #[arg(long = "strategy", value_name = "NAME", value_parser = contender)]
    strategies: Vec<Contender>,

    /// At most so many layers an image; several limits are studied one beside the other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100", value_parser = values::few_layers, allow_negative_numbers = true)]
    max_layers: Vec<u16>,

    /// Let a path of a nixply-history change alone, not with all that it depends on
    #[arg(long)]
    no_propagation: bool,

    /// Study the releases from A to B, by name; either may be left out
    #[arg(long, value_name = "A..B", value_parser = range)]
    releases: Option<(Option<String>, Option<String>)>,

    /// Plan so many releases after the first without measuring them: a lock file has then seen some changes
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::count, allow_negative_numbers = true)]
    warm_up: usize,

    /// Count bytes as they are when compressed, with gzip or zstd, and :LEVEL: as the cache has them of paths that were packed, of
    /// other versions of these by their ratio, of others by the mean ratio, or by 0.3
    #[arg(long, value_name = "CODEC", value_parser = values::codec)]
    compression: Option<Codec>,

    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// Write it to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// For programs: docs/strategies-study.md has the fields
    Json,
    /// A page with charts, in one file
    Html,
}

/// Why a value is wrong. The value itself is in front of it.
fn reason(error: nixply_study::error::Error) -> String {
    match error {
        nixply_study::error::Error::Invalid { why, .. } => why,
        error => error.to_string(),
    }
}

fn fleet(text: &str) -> Result<Fleet, String> {
    text.parse().map_err(reason)
}

fn contender(name: &str) -> Result<Contender, String> {
    Contender::from_name(name).map_err(reason)
}

fn range(text: &str) -> Result<(Option<String>, Option<String>), String> {
    let end = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let (first, last) = text.split_once("..").ok_or("expected two names with two dots between them")?;
    Ok((end(first), end(last)))
}

fn revisions(text: &str) -> Result<(String, String), String> {
    match range(text)? {
        (Some(first), Some(last)) => Ok((first, last)),
        _ => Err("expected two revisions with two dots between them".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let study = Study {
        contenders: match args.strategies.is_empty() {
            true => Contender::usual(),
            false => args.strategies.clone(),
        },
        limits: args.max_layers.iter().map(|limit| usize::from(*limit)).collect(),
        warm_up: args.warm_up,
    };
    let (mut histories, mut closures) = (Vec::new(), Vec::new());
    for subject in read(args)? {
        match subject {
            Subject::History(history) => histories.push(history),
            Subject::Closures(some) => closures.extend(some),
        }
    }
    if let Some((name, _)) = closures.first() {
        let given = [
            ("--releases", args.releases.is_some()),
            ("--warm-up", args.warm_up > 0),
            ("--compression", args.compression.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            bail!("{flag} is for histories, and {name} is a single closure: leave one of them out");
        }
    }
    let steps = histories.iter().map(|history| study.steps(history)).sum();
    let counting = Counting::new("plan", steps, args.verbosity.quiet);
    let cache = args.cache.open();
    let compared = histories.iter().map(|history| {
        let sizes = args.compression.map_or_else(Sizes::default, |codec| {
            let known = |info: &_| cache.as_ref()?.compressed_size(info, codec);
            Sizes::compressed(history, &codec.to_string(), known)
        });
        study.compare(history, &sizes, &|| counting.step())
    });
    let histories = compared.collect::<Result<_, _>>()?;
    drop(counting);
    let expected = closures.iter().map(|(name, closure)| study.expect(name, closure));
    let closures = expected.collect::<Result<_, _>>()?;
    let report = Report { version: VERSION, propagation: !args.no_propagation, histories, closures };
    let file = args.output.as_deref().filter(|file| *file != Path::new("-"));
    let text = match args.format {
        Format::Text => {
            let styled = file.is_none() && AutoStream::choice(&io::stdout()) != ColorChoice::Never;
            report::of(&report).text(styled)
        }
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
        Format::Html => report.html(),
    };
    output::write(file, text.as_bytes())
}

/// What is to be studied.
fn read(args: &Args) -> Result<Vec<Subject>> {
    let propagation = match args.no_propagation {
        true => Propagation::Alone,
        false => Propagation::Dependents,
    };
    let mut subjects = Vec::new();
    if let Some((first, last)) = &args.git_revisions {
        if args.histories.len() > 1 {
            let count = args.histories.len();
            return Err(misused(format!("--git-revisions takes one repository, not {count}")));
        }
        if args.no_propagation {
            let why = "--no-propagation is for a nixply-history: what Nix builds has Nix's hashes";
            return Err(misused(why));
        }
        process::forward_signals()?;
        let revisions = Revisions {
            repository: args.histories.first().map_or(Path::new("."), PathBuf::as_path),
            range: (first, last),
            installables: &args.installables,
            file: args.file.as_deref(),
            quiet: args.verbosity.quiet,
        };
        subjects.push(Subject::History(revisions.read()?));
    }
    for path in args.histories.iter().filter(|_| args.git_revisions.is_none()) {
        subjects.push(Subject::read(path, propagation)?);
    }
    for fleet in &args.synthetic {
        subjects.push(Subject::History(fleet.history(propagation)?));
    }
    if let Some((first, last)) = &args.releases {
        for subject in &mut subjects {
            if let Subject::History(history) = subject {
                history.retain(first.as_deref(), last.as_deref())?;
            }
        }
    }
    Ok(subjects)
}
