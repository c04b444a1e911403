//! Pushes to a registry, a series for each contender and codec.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nixply_packer::Codec;
use unix::time::ClockId;
use unix::unistd::Pid;
use xtask::host::{output, say};
use xtask::services::Registry;

use super::bench::{Bench, Subject, only};
use super::closures::Closure;
use super::contenders::{Contender, Image, LAYERS, Runner, request};
use super::measure::{Usage, measure};
use crate::rows::Row;
use crate::scenario::{Push, Received, SCENARIOS, Scenario, Work};

impl Bench<'_> {
    /// Measures the pushes of all contenders, and packing alone.
    pub(super) fn pushes(&mut self, subject: &Subject) -> Result<Vec<Row>> {
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
                rows.extend(self.pack(subject, *codec, run)?);
                for contender in contenders.iter().filter(|contender| run == 1 || !contender.is_slow()) {
                    rows.extend(self.pushes_of(subject, &images, contender.as_ref(), *codec, run)?);
                }
            }
        }
        Ok(rows)
    }

    /// Measures the build of an image whose compressed layers are not kept.
    fn pack(&mut self, subject: &Subject, codec: Codec, run: u32) -> Result<Option<Row>> {
        let (scenario, base) = (only(Work::Pack), &subject.base);
        let request = request(std::slice::from_ref(&base.root), LAYERS, "size", Some(&codec.to_string()));
        let spec = self.scratch.join("packed.json");
        let build = self.nixply.build_command(&request, &base.file, None, &spec)?;
        output(&mut Command::new("sync"))?;
        let what = format!("{}, {scenario}, {codec}, nixply, run {run}", subject.size.name());
        let usage = self.note(&what, measure(&build));
        Ok(usage.map(|usage| Row {
            layers: LAYERS as u64,
            codec: codec.to_string(),
            ..subject.row(scenario, "nixply", run, usage)
        }))
    }

    /// Measures the pushes of one contender to its own registry, up to the first that fails.
    fn pushes_of(
        &mut self,
        subject: &Subject,
        images: &[(Scenario, Push, Closure)],
        contender: &dyn Contender,
        codec: Codec,
        run: u32,
    ) -> Result<Vec<Row>> {
        let runner = Runner::new(self.scratch)?;
        let mut rows = Vec::new();
        for (scenario, push, closure) in images.iter().filter(|(_, push, _)| contender.takes(push)) {
            let (size, name) = (subject.size.name(), contender.name());
            let what = format!("{size}, {scenario}, {codec}, {name}, run {run}");
            let image = Image { closure, codec, tag: push.change.name(), received: push.received };
            let prepared = contender.prepare(&runner, &image);
            if push.fresh {
                runner.forget()?;
            }
            // Earlier writes must not slow down this push.
            output(&mut Command::new("sync"))?;
            let registry = &runner.registry;
            let (before, cpu) = (registry.log()?.len(), cpu(registry)?);
            let measured = prepared.and_then(|()| push_image(&runner, contender, push, &image));
            let Some(usage) = self.note(&what, measured) else { break };
            let registry_cpu = self::cpu(registry)? - cpu;
            let log = registry.log()?;
            let traffic = Traffic::read(&log[before..], &|digest| registry.blob(digest))?;
            say(format!(
                "  {} requests, {} blobs of {} bytes sent, {} bytes fetched, registry: CPU {registry_cpu:.2} s",
                traffic.requests, traffic.sent_blobs, traffic.sent_bytes, traffic.fetched_bytes
            ));
            rows.push(Row {
                layers: contender.layers(&image) as u64,
                codec: codec.to_string(),
                sent_bytes: Some(traffic.sent_bytes),
                sent_blobs: Some(traffic.sent_blobs),
                fetched_bytes: Some(traffic.fetched_bytes),
                requests: Some(traffic.requests),
                registry_cpu: Some(registry_cpu),
                ..subject.row(*scenario, name, run, usage)
            });
        }
        Ok(rows)
    }
}

/// Builds an image, unless the runner has received the result, and pushes it.
fn push_image(runner: &Runner, contender: &dyn Contender, push: &Push, image: &Image<'_>) -> Result<Usage> {
    let built = match push.received {
        Received::OwnSpec | Received::Description => Usage::default(),
        Received::FormerSpec(former) => {
            contender.learn(runner, &former.name())? + contender.build(runner, image)?
        }
        Received::Nothing | Received::FormerImage | Received::Frames => contender.build(runner, image)?,
    };
    Ok(built + contender.push(runner, image)?)
}

/// Returns the CPU seconds that the registry has used.
fn cpu(registry: &Registry) -> Result<f64> {
    let pid = Pid::from_raw(i32::try_from(registry.pid())?);
    let used = ClockId::pid_cpu_clock_id(pid)?.now()?;
    Ok(std::time::Duration::from(used).as_secs_f64())
}

/// The traffic between clients and a registry.
#[derive(Debug, Default, PartialEq)]
struct Traffic {
    requests: u64,
    /// Size of the uploaded blobs, including those that the registry already had.
    sent_bytes: u64,
    sent_blobs: u64,
    fetched_bytes: u64,
}

impl Traffic {
    /// Reads an access log. `blob` returns the file of a blob.
    fn read(log: &str, blob: &dyn Fn(&str) -> PathBuf) -> Result<Self> {
        let mut traffic = Self::default();
        for request in log.lines().filter_map(Request::parse) {
            traffic.requests += 1;
            if let Some(digest) = request.uploaded() {
                let blob = blob(digest);
                let meta = fs::metadata(&blob).with_context(|| format!("cannot read {}", blob.display()))?;
                traffic.sent_bytes += meta.len();
                traffic.sent_blobs += 1;
            }
            if request.method == "GET" && request.target.contains("/blobs/sha256:") {
                traffic.fetched_bytes += request.bytes;
            }
        }
        Ok(traffic)
    }
}

/// A request in an access log, such as `"PUT /v2/NAME/blobs/uploads/…&digest=sha256%3A… HTTP/1.1" 201 0`.
struct Request<'l> {
    method: &'l str,
    target: &'l str,
    status: &'l str,
    /// Size of the response's body.
    bytes: u64,
}

impl<'l> Request<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (request, answer) = line.split_once('"')?.1.split_once(" HTTP/1.1\" ")?;
        let (method, target) = request.split_once(' ')?;
        let (status, rest) = answer.split_once(' ')?;
        Some(Self { method, target, status, bytes: rest.split(' ').next()?.parse().ok()? })
    }

    /// Returns the digest of the blob if this request completed its upload.
    fn uploaded(&self) -> Option<&'l str> {
        if !["PUT", "POST"].contains(&self.method) || self.status != "201" {
            return None;
        }
        let (_, digest) = self.target.split_once("digest=sha256")?;
        let digest = digest.strip_prefix("%3A").or_else(|| digest.strip_prefix(':'))?;
        digest.get(..64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_from_the_access_log() {
        let digest = "b8b1701aef5218151b440e80e16e8191c23845558dd3c28dfa0e2efcab0348cc";
        let line = |request: &str, status: u32, bytes: u64| {
            format!(
                "127.0.0.1 - - [25/Nov/2026:07:02:36 +0000] \"{request} HTTP/1.1\" {status} {bytes} \"\" \"skopeo/1.9.3\"\n"
            )
        };
        let put = format!("PUT /v2/bench/blobs/uploads/e0d2?_state=Tb%3D&digest=sha256%3A{digest}");
        let get = format!("GET /v2/bench/blobs/sha256:{digest}");
        let log = [
            line("POST /v2/bench/blobs/uploads/", 202, 0),
            line("PATCH /v2/bench/blobs/uploads/e0d2?_state=Tb%3D", 202, 0),
            line(&put, 201, 0),
            line(&put.replace("%3A", ":"), 201, 0),
            line(&put, 500, 70),
            line("PUT /v2/bench/manifests/1", 201, 0),
            line(&format!("POST /v2/bench/blobs/uploads/?mount=sha256:{digest}&from=x"), 201, 0),
            line(&get.replace("GET", "HEAD"), 200, 0),
            line("GET /v2/bench/manifests/1", 200, 500),
            line(&get, 206, 1000),
            "time=\"2026-11-25\" level=warning\n".into(),
        ];
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("data");
        fs::write(&blob, "12345").unwrap();
        let traffic = Traffic::read(&log.concat(), &|found| {
            assert_eq!(found, digest);
            blob.clone()
        });
        let expected = Traffic { requests: 10, sent_bytes: 10, sent_blobs: 2, fetched_bytes: 1000 };
        assert_eq!(traffic.unwrap(), expected);
    }
}
