//! Pushes to a registry, a series for each contender and codec.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use nixply_packer::Codec;
use xtask::host::output;
use xtask::services::Registry;

use super::bench::{Bench, Subject};
use super::closures::Closure;
use super::contenders::{Contender, Runner};
use super::measure::Usage;
use crate::rows::Row;
use crate::scenario::{Push, Received, SCENARIOS, Scenario, Work};

impl Bench<'_> {
    /// Measures the pushes of all contenders.
    pub(super) fn push(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let mut images = Vec::new();
        for scenario in SCENARIOS {
            if let Work::Push(push) = scenario.work {
                images.push((scenario, push, self.closures.make(subject.size, push.change)?));
            }
        }
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

    /// Measures the pushes of one contender to its own registry, up to the first that fails.
    fn pushes(
        &mut self,
        subject: &Subject,
        images: &[(Scenario, Push, Closure)],
        contender: &dyn Contender,
        codec: Codec,
        run: u32,
    ) -> Result<Vec<Row>> {
        let runner = Runner::new(self.scratch)?;
        let mut rows = Vec::new();
        for (scenario, push, image) in images.iter().filter(|(_, push, _)| contender.takes(push)) {
            let tag = push.change.name();
            if push.received == Received::OwnSpec {
                contender.build(&runner, image, codec, &tag)?;
            }
            if push.fresh {
                runner.forget()?;
            }
            // Earlier writes must not slow down this push.
            output(&mut Command::new("sync"))?;
            let before = uploads(&runner.registry.log()?).len();
            let build = || contender.build(&runner, image, codec, &tag);
            let built = match push.received {
                Received::OwnSpec => Ok(Usage::default()),
                Received::FormerSpec(former) => {
                    contender.learn(&runner, &former.name()).and_then(|learnt| Ok(learnt + build()?))
                }
                Received::Nothing => build(),
            };
            let measured = built.and_then(|built| Ok(built + contender.push(&runner, codec, &tag)?));
            let (size, name) = (subject.size.name(), contender.name());
            let what = format!("{size}, {scenario}, {codec}, {name}, run {run}");
            let Some(usage) = self.note(&what, measured) else { break };
            let (bytes, blobs) = sent(&runner.registry, before)?;
            rows.push(Row {
                layers: contender.layers() as u64,
                codec: codec.to_string(),
                sent_bytes: Some(bytes),
                sent_blobs: Some(blobs),
                ..subject.row(*scenario, name, run, usage)
            });
        }
        Ok(rows)
    }
}

/// Returns size and number of the blobs that clients have uploaded after the first `before` uploads, including blobs that the
/// registry already had.
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

/// Reads the digests of completed uploads from an access log: of requests such as `"PUT /v2/NAME/blobs/uploads/…&digest=sha256%3A… HTTP/1.1" 201`.
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
}
