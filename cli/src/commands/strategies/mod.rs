//! `nixply strategies`.

mod report;

use std::io;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Result, bail};
use nixply_packer::Codec;
use nixply_planning::Strategy;
use nixply_study::compare::Study;
use nixply_study::history::{Fleet, Propagation, Subject};
use nixply_study::replay::Contender;
use nixply_study::report::{Report, VERSION};
use nixply_study::sizes::Sizes;

use crate::arguments::{CacheArgs, Verbosity, values};
use crate::failure::misused;
use crate::git_revisions::Revisions;
use crate::terminal::Counting;
use crate::{output, process};

/// Compare layer strategies on the releases of images
///
/// Replays the releases with each strategy, and shows the bytes that are pushed, pulled and shared.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true).multiple(true))]
pub(crate) struct Args {
    /// A nixply-history (.json, .json.zst), or a directory of closures as printed by nix path-info, RELEASE.json or
    /// RELEASE/IMAGE.json. For a single closure, shows the expected cost of a change
    #[arg(value_name = "HISTORY", group = "subject")]
    histories: Vec<PathBuf>,

    /// Generate a synthetic history from a seed and sizes: seed=1,packages=2000,images=10,roots=40,releases=50, or some of these
    #[arg(long, value_name = "SPEC", group = "subject", value_parser = fleet)]
    synthetic: Vec<Fleet>,

    /// Build the revisions from A to B of a git repository with Nix, and compare the results. Follows first parents. The repository
    /// is HISTORY, or that of the working directory. Skips revisions that fail to build or that change no image
    #[arg(long, value_name = "A..B", group = "subject", requires = "installables", value_parser = revisions)]
    git_revisions: Option<(String, String)>,

    /// With --git-revisions: installable to build, as for nix build; once per image
    #[arg(long = "installable", value_name = "INSTALLABLE", requires = "git_revisions")]
    installables: Vec<String>,

    /// With --git-revisions: Nix file of the repository whose attributes are the installables, for repositories without flake
    #[arg(long, value_name = "FILE", requires = "git_revisions")]
    file: Option<PathBuf>,

    #[arg(long = "strategy", value_name = "NAME", help = contenders(), value_parser = contender)]
    strategies: Vec<Contender>,

    /// Maximum number of layers per image; several limits are compared side by side
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100", value_parser = values::few_layers, allow_negative_numbers = true)]
    max_layers: Vec<u16>,

    /// Change each path of a nixply-history alone, without the paths that depend on it
    #[arg(long)]
    no_propagation: bool,

    /// Use only the releases from A to B, by name; A or B can be omitted
    #[arg(long, value_name = "A..B", value_parser = range)]
    releases: Option<(Option<String>, Option<String>)>,

    /// Number of releases after the first that are planned but not measured, so that a lock file has recorded some changes
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::count, allow_negative_numbers = true)]
    warm_up: usize,

    /// Report compressed sizes with this codec, which may have a level as in zstd:9. Sizes of packed paths come from the cache;
    /// others are estimated from another version's ratio, the mean ratio, or 0.3
    #[arg(long, value_name = "CODEC", value_parser = values::codec())]
    compression: Option<Codec>,

    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// File for the output [default: standard output]
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
    /// For programs, with the fields in docs/strategies-study.md
    Json,
    /// A page with charts in one file
    Html,
}

/// Returns the reason of an error about a value. clap prints the value before it.
fn reason(error: nixply_study::error::Error) -> String {
    match error {
        nixply_study::error::Error::Invalid { why, .. } => why,
        error => error.to_string(),
    }
}

fn fleet(text: &str) -> Result<Fleet, String> {
    text.parse().map_err(reason)
}

/// Returns the help of `--strategy`.
fn contenders() -> String {
    let strategies: Vec<_> = Contender::strategies().map(Strategy::name).collect();
    let usual: Vec<_> = Contender::usual().iter().map(Contender::name).collect();
    format!(
        "Strategy to compare: {} plan each image separately; {} plans all images together; {} also updates a lock file with each \
         release. Can be repeated [default: {}]",
        strategies.join(", "),
        Contender::FLEET,
        Contender::LOCKED,
        usual.join(", ")
    )
}

fn contender(name: &str) -> Result<Contender, String> {
    Contender::from_name(name).map_err(reason)
}

fn range(text: &str) -> Result<(Option<String>, Option<String>), String> {
    let end = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let (first, last) =
        text.split_once("..").ok_or("expected two names separated by two dots, as in A..B")?;
    Ok((end(first), end(last)))
}

fn revisions(text: &str) -> Result<(String, String), String> {
    match range(text)? {
        (Some(first), Some(last)) => Ok((first, last)),
        _ => Err("expected two revisions separated by two dots, as in A..B".to_owned()),
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
            bail!("{flag} needs a history, but {name} is a single closure: omit one of them");
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

/// Reads the histories and closures.
fn read(args: &Args) -> Result<Vec<Subject>> {
    let propagation = match args.no_propagation {
        true => Propagation::Alone,
        false => Propagation::Dependents,
    };
    let mut subjects = Vec::new();
    if let Some((first, last)) = &args.git_revisions {
        if args.histories.len() > 1 {
            let count = args.histories.len();
            return Err(misused(format!("--git-revisions needs one repository, got {count}")));
        }
        if args.no_propagation {
            let why = "--no-propagation needs a nixply-history: the paths of --git-revisions change as Nix builds them";
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
