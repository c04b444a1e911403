//! Images on their way into an engine's storage, where they can be run.

use std::process::Command;

use anyhow::{Context, Result};
use nixply_benches::rows::Row;

use super::closures::{Change, Closure};
use super::contenders::{Codec, Contender, LAYERS, Nix2container, Nixply, Runner, on_path};
use super::measure::{Usage, measure};
use super::scenarios::{Bench, Subject};
use crate::host::{self, output, say};
use crate::services::Docker;

/// The images that an engine takes, one after the other.
const STEPS: [(&str, Change); 2] = [("first image", Change::None), ("leaf changed", Change::Leaf(1))];

/// Who has a storage of images.
enum Engine {
    Podman,
    Docker(Docker),
}

impl Engine {
    fn name(&self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker(_) => "docker",
        }
    }

    /// What it reads: Debian's Docker reads no zstd.
    fn codec(&self) -> Codec {
        match self {
            Self::Podman => Codec::Zstd,
            Self::Docker(_) => Codec::Gzip,
        }
    }

    /// Takes the image of this reference from a registry on loopback.
    fn pull(&self, runner: &Runner, reference: &str) -> Command {
        match self {
            Self::Podman => {
                let mut command = Command::new("podman");
                command.arg("--root").arg(runner.path("containers")).arg("--runroot").arg(runner.path("run"));
                command.args(["pull", "--quiet", "--tls-verify=false", reference]);
                command
            }
            Self::Docker(docker) => {
                let mut command = Command::new("docker");
                command.args(["--host", &docker.host, "pull", "--quiet", reference]);
                command
            }
        }
    }

    /// The same storage for skopeo.
    fn copy(&self, runner: &Runner, tag: &str, mut copy: Command) -> Command {
        match self {
            Self::Podman => {
                let (root, run) = (runner.path("containers"), runner.path("run"));
                // Root's: skopeo must not take itself for somebody else.
                copy.env_remove("_CONTAINERS_ROOTLESS_UID").arg(format!(
                    "containers-storage:[overlay@{}+{}]bench:{tag}",
                    root.display(),
                    run.display()
                ));
            }
            Self::Docker(docker) => {
                copy.args(["--dest-daemon-host", &docker.host]).arg(format!("docker-daemon:bench:{tag}"));
            }
        }
        copy
    }
}

impl Bench<'_> {
    /// nixply's images are pulled from `nixply serve`, nix2container's are copied by its skopeo.
    pub(super) fn pull(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if !host::is_root() {
            say("engines do not take part: this is not root");
            return Ok(rows);
        }
        let images: Vec<Closure> = STEPS
            .iter()
            .map(|(_, change)| self.closures.make(subject.size, *change))
            .collect::<Result<_>>()?;
        let peer = self.programs.nix2container_contender();
        for run in 1..=self.runs {
            for name in ["podman", "dockerd"] {
                if on_path(name).is_none() {
                    say(format!("{name} does not take part: it is not installed"));
                    continue;
                }
                let engine = || match name {
                    "podman" => Ok(Engine::Podman),
                    _ => Docker::start().map(Engine::Docker),
                };
                rows.extend(self.pulls(
                    subject,
                    &images,
                    &engine()?,
                    &Taker::Nixply(self.nixply.clone()),
                    run,
                )?);
                if let Some(peer) = &peer {
                    rows.extend(self.pulls(subject, &images, &engine()?, &Taker::Peer(peer.clone()), run)?);
                }
            }
        }
        Ok(rows)
    }

    fn pulls(
        &mut self,
        subject: &Subject,
        images: &[Closure],
        engine: &Engine,
        taker: &Taker,
        run: u32,
    ) -> Result<Vec<Row>> {
        let runner = Runner::new(self.scratch)?;
        let mut rows = Vec::new();
        for ((step, change), image) in STEPS.iter().zip(images) {
            output(&mut Command::new("sync"))?;
            let scenario = format!("{}: {step}", engine.name());
            let (name, codec) = (taker.contender().name(), engine.codec());
            let measured = taker.take(engine, &runner, image, &change.name());
            let sent = measured.as_ref().ok().and_then(|(_, sent)| *sent);
            let what = format!("{}, {scenario}, {name}, run {run}", subject.size.name());
            let Some(usage) = self.note(&what, measured.map(|(usage, _)| usage)) else { break };
            rows.push(Row {
                layers: LAYERS as u64,
                codec: codec.name(),
                sent_bytes: sent.map(|(bytes, _)| bytes),
                sent_blobs: sent.map(|(_, blobs)| blobs),
                ..subject.row(&scenario, name, run, usage)
            });
        }
        Ok(rows)
    }
}

/// Who brings an image to an engine.
enum Taker {
    Nixply(Nixply),
    Peer(Nix2container),
}

impl Taker {
    fn contender(&self) -> &dyn Contender {
        match self {
            Self::Nixply(nixply) => nixply,
            Self::Peer(peer) => peer,
        }
    }

    /// Builds the image and brings it there; gives also bytes and number of the blobs that went over a wire.
    fn take(
        &self,
        engine: &Engine,
        runner: &Runner,
        image: &Closure,
        tag: &str,
    ) -> Result<(Usage, Option<(u64, u64)>)> {
        let built = self.contender().build(runner, image, engine.codec(), tag)?;
        match self {
            Self::Nixply(nixply) => {
                let (taken, said) = nixply.serve(runner, tag, |reference| engine.pull(runner, reference))?;
                Ok((built + taken, Some(sent(&said)?)))
            }
            Self::Peer(peer) => {
                Ok((built + measure(&engine.copy(runner, tag, peer.copy(runner, tag)))?, None))
            }
        }
    }
}

/// Bytes and blobs of a server's last words: "… sent 70 bytes (70 B) of 2 blobs".
fn sent(said: &str) -> Result<(u64, u64)> {
    let number = |before: &str, after: &str| {
        let (_, rest) = said.rsplit_once(before)?;
        rest.split_once(after)?.0.parse().ok()
    };
    number(" sent ", " bytes ").zip(number(" of ", " blobs")).with_context(|| format!("no summary: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_last_words_are_read() {
        let said = "serving on 127.0.0.1:1; Ctrl-C ends it\n\
                    answered 5 requests; packed 0 layers; sent 1010352 bytes (1.0 MB) of 2 blobs\n";
        assert_eq!(sent(said).unwrap(), (1_010_352, 2));
        assert!(sent("serving").is_err());
    }
}
