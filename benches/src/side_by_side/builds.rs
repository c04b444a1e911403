//! Builds without a cache: the layers' digests alone, which must be the same for all contenders.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::host::{self, output, say};

use super::bench::{Bench, Subject};
use super::contenders::{nix2container_layers, request};
use super::measure::measure;
use crate::rows::Row;
use crate::scenario::{SCENARIOS, Work};

impl Bench<'_> {
    /// Measures builds with the files in memory, and as root also with the files only on disk.
    pub(super) fn build(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let peer = self.programs.nix2container();
        if peer.is_none() {
            say("skipping nix2container's builds: pass --nix2container to include it");
        }
        for scenario in SCENARIOS {
            let Work::Build { layers, cold } = scenario.work else { continue };
            if cold && !host::is_root() {
                say(format!("skipping \"{scenario}\": only root can drop the page cache"));
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
                    if cold {
                        drop_page_cache()?;
                    }
                    let what = format!("{}, {scenario}, {name}, run {run}", subject.size.name());
                    let Some(usage) = self.note(&what, measure(&command)) else { continue };
                    let found = read_diff_ids(&file)?;
                    match &diff_ids {
                        Some(first) if *first != found => {
                            bail!("{what}: the diff_ids differ from those of nixply: {found:?} and {first:?}")
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
}

/// Drops the kernel's page cache.
fn drop_page_cache() -> Result<()> {
    output(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}

/// Reads the layers' diff_ids from a spec or from a list of layers.
fn read_diff_ids(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let value: Value = serde_json::from_str(&text)?;
    let layers = value.get("layers").unwrap_or(&value).as_array().context("a spec without layers")?;
    let id =
        |layer: &Value| layer["diff_ids"].as_str().map(str::to_owned).context("a layer without diff_ids");
    layers.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diff_ids_are_read_from_both_forms() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.json");
        for text in [
            r#"{"layers": [{"diff_ids": "sha256:a"}, {"diff_ids": "sha256:b"}]}"#,
            r#"[{"diff_ids": "sha256:a"}, {"diff_ids": "sha256:b"}]"#,
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(read_diff_ids(&file).unwrap(), ["sha256:a", "sha256:b"]);
        }
    }
}
