//! Measures groups of scenarios. A failed measurement has no row and does not stop the others.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nixply_packer::Codec;
use xtask::host::{output, say};

use super::closures::{self, Closure, Closures, Size};
use super::contenders::{LAYERS, Nixply, Programs, TAR, ZSTD, request};
use super::measure::{Usage, measure};
use crate::rows::Row;
use crate::scenario::{Change, Group, SCENARIOS, Scenario, Work};

/// The settings of all measurements.
pub(crate) struct Bench<'b> {
    /// The closures.
    pub closures: &'b mut Closures,
    /// nixply.
    pub nixply: &'b Nixply,
    /// Programs of the other contenders.
    pub programs: &'b Programs,
    /// Number of runs of each contender.
    pub runs: u32,
    /// Codecs of the pushed images.
    pub codecs: &'b [Codec],
    /// Sizes of the changes in MiB.
    pub changed_mib: &'b [usize],
    /// Directory for all temporary files.
    pub scratch: &'b Path,
    /// Messages about the failed measurements, which have no row.
    pub failures: Vec<String>,
}

/// The measured closure.
pub(super) struct Subject {
    pub(super) size: Size,
    pub(super) base: Closure,
    files: u64,
}

impl Subject {
    /// Returns a row of this closure.
    pub(super) fn row(&self, scenario: Scenario, contender: &str, run: u32, usage: Usage) -> Row {
        Row {
            closure: self.size.name().to_owned(),
            paths: self.base.infos.len() as u64,
            files: self.files,
            bytes: self.base.bytes(),
            scenario,
            contender: contender.to_owned(),
            run: u64::from(run),
            seconds: usage.seconds,
            user: usage.user,
            system: usage.system,
            max_rss_kib: usage.max_rss,
            ..Row::default()
        }
    }
}

impl Bench<'_> {
    /// Measures one group with one closure.
    pub(crate) fn measure(&mut self, group: Group, size: Size) -> Result<Vec<Row>> {
        let base = self.closures.make(size, Change::None)?;
        let mut files = 0;
        for info in &base.infos {
            closures::tree::walk(Path::new(&info.path), &mut |_, meta| files += u64::from(meta.is_file()))?;
        }
        let subject = Subject { size, base, files };
        self.warm_up(&subject)?;
        match group {
            Group::Reference => self.reference(&subject),
            Group::Build => self.build(&subject),
            Group::Push => self.pushes(&subject),
            Group::Pull => self.pull(&subject),
            Group::Changed => self.changed(&subject),
        }
    }

    /// Reads every file once, so that the page cache has them.
    fn warm_up(&self, subject: &Subject) -> Result<()> {
        say(format!("{}: reading every file once", subject.size.name()));
        let list = self.scratch.join("paths.list");
        fs::write(&list, subject.base.tar_list())?;
        let script = format!("tar -C / -cf - -T {} | cat > /dev/null", list.display());
        output(Command::new("sh").arg("-c").arg(script)).map(drop)
    }

    /// Prints the result of a measurement; records and prints its error.
    pub(super) fn note(&mut self, what: &str, measured: Result<Usage>) -> Option<Usage> {
        match measured {
            Ok(usage) => {
                say(format!("{what}: {:.2} s, CPU {:.2} s", usage.seconds, usage.user + usage.system));
                Some(usage)
            }
            Err(error) => {
                let failure = format!("{what} failed: {error:#}");
                say(&failure);
                self.failures.push(failure);
                None
            }
        }
    }

    /// Measures tar, hashes and codecs.
    fn reference(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let list = self.scratch.join("paths.list");
        let threads = std::thread::available_parallelism()?;
        let mut rows = Vec::new();
        let scenario = only(Work::Reference);
        for run in 1..=self.runs {
            for (program, command) in [
                ("cat", "cat".to_owned()),
                ("openssl", "openssl dgst -sha256".to_owned()),
                ("b3sum", "b3sum".to_owned()),
                ("zstd", format!("zstd -q -1 -T{threads} -c")),
                ("zstd", format!("zstd -q -3 -T{threads} -c")),
                ("igzip", "igzip -1 -c".to_owned()),
                ("pigz", format!("pigz -6 -p {threads} -c")),
            ] {
                if which::which(program).is_err() {
                    continue;
                }
                let name = format!("tar | {}", command.trim_end_matches(" -c").replace(" -q", ""));
                let script =
                    format!("set -e; {TAR} -C / -cf - -T {} | {command} > /dev/null", list.display());
                let measured = measure(Command::new("sh").arg("-c").arg(script));
                let what = format!("{}, {name}, run {run}", subject.size.name());
                if let Some(usage) = self.note(&what, measured) {
                    rows.push(subject.row(scenario, &name, run, usage));
                }
            }
        }
        Ok(rows)
    }

    /// Measures nixply with four extra store paths that have new contents in each run. The cache has all other paths.
    fn changed(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let cache = tempfile::Builder::new().prefix("cache-").tempdir_in(self.scratch)?;
        let mut rows = Vec::new();
        for &changed in self.changed_mib {
            for run in 0..=self.runs {
                // Run 0 fills the cache and has no row.
                let extra = self.closures.make_extra(u64::from(run), changed << 20)?;
                let roots: Vec<String> =
                    std::iter::once(&subject.base.root).chain(extra.paths()).cloned().collect();
                let mut infos = [&subject.base.infos[..], extra.infos()].concat();
                infos.sort_by(|a, b| a.path.cmp(&b.path));
                let file = self.scratch.join("changed.json");
                fs::write(&file, serde_json::to_string(&infos)?)?;
                let request = request(&roots, LAYERS, "size", Some(&ZSTD.to_string()));
                let spec = self.scratch.join("changed-spec.json");
                let build = self.nixply.build_command(&request, &file, Some(cache.path()), &spec)?;
                output(&mut Command::new("sync"))?;
                let what = format!("{}, {changed} MiB changed, run {run}", subject.size.name());
                let measured = measure(&build);
                if run == 0 {
                    measured?;
                } else if let Some(usage) = self.note(&what, measured) {
                    rows.push(Row {
                        layers: LAYERS as u64,
                        codec: ZSTD.to_string(),
                        changed_mib: Some(changed as u64),
                        ..subject.row(only(Work::Changed), "nixply", run, usage)
                    });
                }
            }
        }
        Ok(rows)
    }
}

/// Returns the scenario of a kind of work that has only one.
pub(super) fn only(work: Work) -> Scenario {
    *SCENARIOS.iter().find(|scenario| scenario.work == work).expect("every kind of work has a scenario")
}
