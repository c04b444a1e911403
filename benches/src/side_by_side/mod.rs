//! The side-by-side: measures nixply and other tools on the same closures, in turns.

mod bench;
mod builds;
mod closures;
mod contenders;
mod machine;
pub mod measure;
mod pulls;
mod pushes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nixply_packer::Codec;
use xtask::host::{self, say};
use xtask::{nix, release};

use self::bench::Bench;
use self::closures::{Closures, Size};
use self::contenders::{CODECS, Nixply, Programs, ZSTD};
use crate::scenario::{Change, Group};
use crate::{report, rows};

/// Debian packages of contenders and reference programs. If one cannot be installed, its measurements are missing.
const OPTIONAL: [&str; 7] = ["b3sum", "buildah", "isal", "openssl", "pigz", "tar", "zstd"];

/// Measure nixply and other tools on closures of real packages.
#[derive(clap::Args)]
pub struct Args {
    /// Only build the closures
    #[arg(long)]
    make_closures: bool,

    /// small, medium, large or all [default: all; with --quick, small]
    #[arg(long, value_name = "SIZE")]
    closure: Option<String>,

    /// Scenarios to measure; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Group>,

    /// Codec of the pushed images [default: both; with --quick, zstd]
    #[arg(long, value_name = "CODEC", value_parser = codec_parser())]
    codec: Option<Codec>,

    /// Number of runs of each contender; buildah and tar, which are slow, run once [default: 3; with --quick, 1]
    #[arg(long, value_name = "N")]
    runs: Option<u32>,

    /// Check that everything works: one run, one codec, fewer steps
    #[arg(long)]
    quick: bool,

    /// Directory for the results [default: benches/results, which also updates docs/benchmarks.md; with --quick, target/bench]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Directory for temporary files, with room for several closures
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,

    #[command(flatten)]
    programs: Programs,
}

impl Args {
    /// Returns whether the options exclude a measurement.
    fn is_partial(&self) -> bool {
        !self.scenario.is_empty()
            || self.codec.is_some()
            || self.closure.as_deref().is_some_and(|closure| closure != "all")
    }
}

/// Returns a parser of the names of [`CODECS`].
fn codec_parser() -> impl TypedValueParser<Value = Codec> {
    PossibleValuesParser::new(CODECS.map(Codec::name)).map(|name| {
        CODECS.into_iter().find(|codec| codec.name() == name).expect("only these names are possible values")
    })
}

/// Measures, and writes the results after each group of scenarios.
pub fn run(args: &Args) -> Result<()> {
    let sizes = match args.closure.as_deref() {
        None if args.quick => vec![Size::Small],
        None | Some("all") => Size::ALL.to_vec(),
        Some(name) => vec![name.parse()?],
    };
    let mut closures = Closures::open()?;
    if args.make_closures {
        return make_closures(&mut closures, &sizes);
    }
    host::apt_install(&["skopeo", "docker-registry", "git"])?;
    if let Err(error) = host::apt_install(&OPTIONAL) {
        say(format!("some measurements will be missing: {error:#}"));
    }
    let scratch = tempfile::Builder::new().prefix("nixply-bench-").tempdir_in(&args.scratch)?;
    let program = match &args.programs.nixply {
        Some(program) => program.clone(),
        None => {
            let nix = nix::install(&nix::Version::Bookworm)?;
            release::build(&nix::Nix { has_headers: false, ..nix })?.cli
        }
    };
    let nixply = Nixply { program, store_dir: closures.store_dir(), skopeo: args.programs.skopeo.clone() };
    let files = Files::new(args)?;
    let what = if args.scenario.is_empty() { "everything".into() } else { format!("{:?}", args.scenario) };
    let facts = format!(
        "== {what}; closures: {}\n{}",
        sizes.iter().map(|size| size.name()).collect::<Vec<_>>().join(" "),
        machine::facts(&args.programs)?
    );
    let before = machine::load();
    let codecs = match args.codec {
        Some(codec) => vec![codec],
        None if args.quick => vec![ZSTD],
        None => CODECS.to_vec(),
    };
    let mut bench = Bench {
        closures: &mut closures,
        nixply: &nixply,
        programs: &args.programs,
        runs: args.runs.unwrap_or(if args.quick { 1 } else { 3 }).max(1),
        codecs: &codecs,
        changed_mib: if args.quick { &[2, 32] } else { &[2, 8, 32, 128, 512] },
        scratch: scratch.path(),
        failures: Vec::new(),
    };
    let groups = if args.scenario.is_empty() { &Group::ALL[..] } else { &args.scenario };
    for size in sizes {
        for group in groups {
            let measured = bench.measure(*group, size)?;
            files.add(&measured)?;
            let facts = format!(
                "{facts}runs: {}, in turns\nload average: {before} before, {} after\n",
                bench.runs,
                machine::load()
            );
            files.describe(&facts, &bench.failures)?;
        }
    }
    files.report(!args.quick && args.output.is_none())?;
    for failure in &bench.failures {
        say(format!("no row: {failure}"));
    }
    Ok(())
}

fn make_closures(closures: &mut Closures, sizes: &[Size]) -> Result<()> {
    for size in sizes {
        let base = closures.make(*size, Change::None)?;
        for change in [Change::Leaf(1), Change::Leaf(2), Change::Middle(1), Change::Middle(2)] {
            closures.make(*size, change)?;
        }
        let (paths, megabytes) = (base.infos.len(), base.bytes() / 1_000_000);
        say(format!("{}: {paths} paths, {megabytes} MB: {}", size.name(), base.file.display()));
    }
    Ok(())
}

/// Files of the results.
struct Files {
    csv: PathBuf,
    facts: PathBuf,
    /// Facts about earlier measurements, some of whose rows may remain.
    former: String,
}

impl Files {
    fn new(args: &Args) -> Result<Self> {
        let default = if args.quick { "target/bench" } else { "benches/results" };
        let directory = args.output.clone().unwrap_or_else(|| host::root().join(default));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let name = format!("{}-side-by-side", machine::today()?);
        let (csv, facts) = (directory.join(format!("{name}.csv")), directory.join(format!("{name}.txt")));
        if !args.is_partial() {
            let _ = fs::remove_file(&csv);
            let _ = fs::remove_file(&facts);
        }
        let former = fs::read_to_string(&facts).unwrap_or_default();
        Ok(Self { csv, facts, former })
    }

    /// Adds rows and replaces earlier ones of the same scenarios.
    fn add(&self, new: &[rows::Row]) -> Result<()> {
        let old = match fs::read_to_string(&self.csv) {
            Ok(text) => rows::read(&text).with_context(|| self.csv.display().to_string())?,
            Err(_) => Vec::new(),
        };
        write(&self.csv, &rows::write(&rows::replace(old, new))?)
    }

    fn describe(&self, facts: &str, failures: &[String]) -> Result<()> {
        let failures: String = failures.iter().map(|failure| format!("no row: {failure}\n")).collect();
        write(&self.facts, &format!("{}{facts}{failures}\n", self.former))
    }

    /// Prints the tables; with `docs`, also updates the documentation.
    fn report(&self, docs: bool) -> Result<()> {
        let text = fs::read_to_string(&self.csv).with_context(|| self.csv.display().to_string())?;
        let rows = rows::read(&text)?;
        if rows.is_empty() {
            bail!("nothing was measured");
        }
        print!("{}", report::text(&rows));
        if docs {
            report::write_docs(&rows, &fs::read_to_string(&self.facts)?, &host::root().join("docs"))?;
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
