//! What is measured: each scenario gives rows, one for each contender and run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nixply_benches::rows::Row;
use serde_json::Value;

use super::closures::{self, Change, Closure, Closures, Size};
use super::contenders::{
    Codec, Contender, Known, LAYERS, Nixply, Programs, Runner, Step, TAR, nix2container_layers, on_path,
    path_list, request,
};
use super::measure::{Usage, measure};
use crate::host::{self, output, say};
use crate::services::Registry;

/// A group of scenarios, which are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// tar, hashes and codecs on the same bytes, for reference
    Reference,
    /// The layers' diff_ids alone, without a cache
    Build,
    /// Build and push: first, again, with the app changed, with a path in the middle changed; the same on fresh runners
    Push,
    /// Build, and into an engine's storage: podman's and Docker's
    Pull,
    /// The build of nixply with ever more changed bytes
    Changed,
}

impl Scenario {
    /// All of them, in the order of measuring.
    pub(crate) const ALL: [Self; 5] = [Self::Reference, Self::Build, Self::Push, Self::Pull, Self::Changed];
}

/// The pushes of a contender, one after the other.
const STEPS: [Step; 9] = {
    const fn step(scenario: &'static str, change: Change, fresh: bool) -> Step {
        Step { scenario, change, fresh, known: Known::Nothing }
    }
    [
        step("first push", Change::None, false),
        step("no change", Change::None, false),
        step("leaf changed", Change::Leaf(1), false),
        step("middle changed", Change::Middle(1), false),
        step("fresh runner: no change", Change::None, true),
        step("fresh runner: leaf changed", Change::Leaf(2), true),
        step("fresh runner: middle changed", Change::Middle(2), true),
        Step {
            known: Known::FormerSpec(Change::None),
            ..step("fresh runner: leaf changed (former spec known)", Change::Leaf(3), true)
        },
        Step {
            known: Known::OwnSpec,
            ..step("fresh runner: leaf changed (its spec known)", Change::Leaf(4), true)
        },
    ]
};

/// What a measurement needs.
pub(crate) struct Bench<'b> {
    /// The closures.
    pub closures: &'b mut Closures,
    /// nixply.
    pub nixply: &'b Nixply,
    /// The other contenders' programs.
    pub programs: &'b Programs,
    /// How often each is measured.
    pub runs: u32,
    /// With which codecs images are pushed.
    pub codecs: &'b [Codec],
    /// How much changes.
    pub changed_mib: &'b [usize],
    /// A folder for everything that is written.
    pub scratch: &'b Path,
    /// What went wrong: those rows are absent.
    pub failures: Vec<String>,
}

/// A closure under measurement.
pub(super) struct Subject {
    pub(super) size: Size,
    base: Closure,
    files: u64,
}

impl Subject {
    pub(super) fn row(&self, scenario: &str, contender: &str, run: u32, usage: Usage) -> Row {
        Row {
            closure: self.size.name().to_owned(),
            paths: self.base.infos.len() as u64,
            files: self.files,
            bytes: self.base.bytes(),
            scenario: scenario.to_owned(),
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
    pub(crate) fn measure(&mut self, scenario: Scenario, size: Size) -> Result<Vec<Row>> {
        let base = self.closures.make(size, Change::None)?;
        let mut files = 0;
        for info in &base.infos {
            closures::tree::walk(Path::new(&info.path), &mut |_, meta| files += u64::from(meta.is_file()))?;
        }
        let subject = Subject { size, base, files };
        self.warm_up(&subject)?;
        match scenario {
            Scenario::Reference => self.reference(&subject),
            Scenario::Build => self.build(&subject),
            Scenario::Push => self.push(&subject),
            Scenario::Pull => self.pull(&subject),
            Scenario::Changed => self.changed(&subject),
        }
    }

    /// Has the kernel read every file.
    fn warm_up(&self, subject: &Subject) -> Result<()> {
        say(format!("{}: reading every file once", subject.size.name()));
        let list = self.scratch.join("paths.list");
        fs::write(&list, path_list(&subject.base))?;
        let script = format!("tar -C / -cf - -T {} | cat > /dev/null", list.display());
        output(Command::new("sh").arg("-c").arg(script)).map(drop)
    }

    /// Says what a measurement took, or what went wrong; what does is no reason to end.
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

    fn reference(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let list = self.scratch.join("paths.list");
        let threads = std::thread::available_parallelism()?;
        let mut rows = Vec::new();
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
                if on_path(program).is_none() {
                    continue;
                }
                let name = format!("tar | {}", command.trim_end_matches(" -c").replace(" -q", ""));
                let script =
                    format!("set -e; {TAR} -C / -cf - -T {} | {command} > /dev/null", list.display());
                let measured = measure(Command::new("sh").arg("-c").arg(script));
                let what = format!("{}, {name}, run {run}", subject.size.name());
                if let Some(usage) = self.note(&what, measured) {
                    rows.push(subject.row("reference", &name, run, usage));
                }
            }
        }
        Ok(rows)
    }

    /// Warm and cold: with the files in memory, and with them on disk alone.
    fn build(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let peer = self.programs.nix2container();
        if peer.is_none() {
            say("nix2container does not take part in the build: --nix2container names it");
        }
        for (layers, cold) in [(1, false), (LAYERS, false), (LAYERS, true)] {
            if cold && !host::is_root() {
                say("no build with the files on disk alone: only root can have the kernel forget them");
                continue;
            }
            for run in 1..=self.runs {
                let spec = self.scratch.join("built.json");
                let request = request(std::slice::from_ref(&subject.base.root), layers, "popularity", None);
                let ours = self.nixply.build_command(&request, &subject.base.file, None, &spec)?;
                let mut contenders = vec![("nixply", ours, spec)];
                if let Some(program) = &peer {
                    let file = self.scratch.join("layers.json");
                    let theirs = nix2container_layers(program, &file, &subject.base.file, layers);
                    contenders.push(("nix2container", theirs, file));
                }
                let mut diff_ids: Option<Vec<String>> = None;
                for (name, command, file) in contenders {
                    let scenario = match (layers, cold) {
                        (1, _) => "build: 1 layer",
                        (_, false) => "build: 100 layers",
                        (_, true) => "build: 100 layers (from disk)",
                    };
                    if cold {
                        forget_files()?;
                    }
                    let what = format!("{}, {scenario}, {name}, run {run}", subject.size.name());
                    let Some(usage) = self.note(&what, measure(&command)) else { continue };
                    let found = read_diff_ids(&file)?;
                    match &diff_ids {
                        Some(first) if *first != found => {
                            bail!("{what}: the diff_ids are not those of nixply: {found:?} and {first:?}")
                        }
                        _ => diff_ids = Some(found),
                    }
                    let row = subject.row(scenario, name, run, usage);
                    rows.push(Row { layers: layers as u64, ..row });
                }
            }
        }
        Ok(rows)
    }

    fn push(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let images: Vec<Closure> =
            STEPS.iter().map(|step| self.closures.make(subject.size, step.change)).collect::<Result<_>>()?;
        let contenders = self.programs.contenders(self.nixply);
        let mut rows = Vec::new();
        for run in 1..=self.runs {
            for codec in self.codecs {
                for contender in contenders.iter().filter(|contender| run == 1 || !contender.is_slow()) {
                    rows.extend(self.pushes(subject, &images, contender.as_ref(), *codec, run)?);
                }
            }
        }
        Ok(rows)
    }

    /// All pushes of one contender, to a registry of its own. The first that fails is the last.
    fn pushes(
        &mut self,
        subject: &Subject,
        images: &[Closure],
        contender: &dyn Contender,
        codec: Codec,
        run: u32,
    ) -> Result<Vec<Row>> {
        let runner = Runner::new(self.scratch)?;
        let mut rows = Vec::new();
        for (step, image) in STEPS.iter().zip(images).filter(|(step, _)| contender.takes(step)) {
            let tag = step.change.name();
            if step.known == Known::OwnSpec {
                contender.build(&runner, image, codec, &tag)?;
            }
            if step.fresh {
                runner.forget()?;
            }
            // Nobody waits for what was written before.
            output(&mut Command::new("sync"))?;
            let before = uploads(&runner.registry.log()?).len();
            let build = || contender.build(&runner, image, codec, &tag);
            let built = match step.known {
                Known::OwnSpec => Ok(Usage::default()),
                Known::FormerSpec(former) => {
                    contender.learn(&runner, &former.name()).and_then(|learnt| Ok(learnt + build()?))
                }
                Known::Nothing => build(),
            };
            let measured = built.and_then(|built| Ok(built + contender.push(&runner, codec, &tag)?));
            let (size, name) = (subject.size.name(), contender.name());
            let what = format!("{size}, {}, {}, {name}, run {run}", step.scenario, codec.name());
            let Some(usage) = self.note(&what, measured) else { break };
            let (bytes, blobs) = sent(&runner.registry, before)?;
            rows.push(Row {
                layers: contender.layers() as u64,
                codec: codec.name(),
                sent_bytes: Some(bytes),
                sent_blobs: Some(blobs),
                ..subject.row(step.scenario, name, run, usage)
            });
        }
        Ok(rows)
    }

    /// Four extra paths have new content in each run; the cache knows all the rest.
    fn changed(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let cache = tempfile::Builder::new().prefix("cache-").tempdir_in(self.scratch)?;
        let mut rows = Vec::new();
        for &changed in self.changed_mib {
            for run in 0..=self.runs {
                // Run 0 fills the cache.
                let extra = self.closures.make_extra(u64::from(run), changed << 20)?;
                let roots: Vec<String> =
                    std::iter::once(&subject.base.root).chain(extra.paths()).cloned().collect();
                let mut infos = [&subject.base.infos[..], extra.infos()].concat();
                infos.sort_by(|a, b| a.path.cmp(&b.path));
                let file = self.scratch.join("changed.json");
                fs::write(&file, serde_json::to_string(&infos)?)?;
                let request = request(&roots, LAYERS, "size", Some(&Codec::Zstd.name()));
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
                        codec: Codec::Zstd.name(),
                        changed_mib: Some(changed as u64),
                        ..subject.row("changed bytes", "nixply", run, usage)
                    });
                }
            }
        }
        Ok(rows)
    }
}

/// Has the kernel forget what it has read of files.
fn forget_files() -> Result<()> {
    output(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot have the kernel forget files")
}

/// The layers' diff_ids of a spec, or of a list of layers.
fn read_diff_ids(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let value: Value = serde_json::from_str(&text)?;
    let layers = value.get("layers").unwrap_or(&value).as_array().context("a spec without layers")?;
    let id =
        |layer: &Value| layer["diff_ids"].as_str().map(str::to_owned).context("a layer without diff_ids");
    layers.iter().map(id).collect()
}

/// Bytes and number of the blobs that a registry has received in full, after so many before; those that it had already
/// count too.
fn sent(registry: &Registry, before: usize) -> Result<(u64, u64)> {
    let uploads = uploads(&registry.log()?);
    let new = &uploads[before..];
    let sizes = new.iter().map(|digest| {
        let blob = registry.blob(digest);
        let meta = fs::metadata(&blob).with_context(|| format!("cannot read {}", blob.display()))?;
        Ok(meta.len())
    });
    Ok((sizes.sum::<Result<u64>>()?, new.len() as u64))
}

/// The digests of the uploads in an access log: of requests such as `"PUT /v2/NAME/blobs/uploads/…&digest=sha256%3A… HTTP/1.1" 201`.
fn uploads(log: &str) -> Vec<String> {
    let digest = |line: &str| {
        let (_, request) = line.split_once("\"PUT ")?;
        let (target, status) = request.split_once(" HTTP/1.1\" ")?;
        let (_, digest) = target.split_once("digest=sha256%3A").filter(|_| status.starts_with("201"))?;
        digest.get(..64).map(str::to_owned)
    };
    log.lines().filter_map(digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_read_from_the_access_log() {
        let digest = "b8b1701aef5218151b440e80e16e8191c23845558dd3c28dfa0e2efcab0348cc";
        let line = |request: &str, status: u32| {
            format!(
                "127.0.0.1 - - [25/Nov/2026:07:02:36 +0000] \"{request} HTTP/1.1\" {status} 0 \"\" \"skopeo/1.9.3\"\n"
            )
        };
        let put = format!("PUT /v2/bench/blobs/uploads/e0d2?_state=Tb%3D&digest=sha256%3A{digest}");
        let log = [
            line("POST /v2/bench/blobs/uploads/", 202),
            line("PATCH /v2/bench/blobs/uploads/e0d2?_state=Tb%3D", 202),
            line(&put, 201),
            line(&put, 500),
            line("PUT /v2/bench/manifests/1", 201),
            line(&format!("HEAD /v2/bench/blobs/sha256:{digest}"), 200),
        ];
        assert_eq!(uploads(&log.concat()), [digest]);
    }

    #[test]
    fn diff_ids_are_read_from_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.json");
        for text in [
            r#"{"layers": [{"diff_ids": "sha256:a"}, {"diff_ids": "sha256:b"}]}"#,
            r#"[{"diff_ids": "sha256:a"}, {"diff_ids": "sha256:b"}]"#,
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(read_diff_ids(&file).unwrap(), ["sha256:a", "sha256:b"]);
        }
    }
}
