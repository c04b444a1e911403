//! Copies of images into an engine's storage, from which containers can start.

use std::process::Command;

use anyhow::{Context, Result};
use nixply_packer::Codec;
use xtask::host::{self, output, say};
use xtask::services::Docker;

use super::bench::{Bench, Subject};
use super::closures::Closure;
use super::contenders::{Contender, GZIP, Image, LAYERS, Nix2container, Nixply, Runner, ZSTD};
use super::measure::{Usage, measure};
use crate::rows::Row;
use crate::scenario::{Change, Engine, Received, SCENARIOS, Scenario, Work};

/// An engine with an empty storage.
enum Storage {
    Podman,
    Docker(Docker),
}

impl Storage {
    fn start(engine: Engine) -> Result<Self> {
        match engine {
            Engine::Podman => Ok(Self::Podman),
            Engine::Docker => Docker::start().map(Self::Docker),
        }
    }

    /// Returns a codec that the engine reads: Debian's Docker cannot read zstd.
    fn codec(&self) -> Codec {
        match self {
            Self::Podman => ZSTD,
            Self::Docker(_) => GZIP,
        }
    }

    /// Returns the command that pulls an image from a registry on loopback.
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

    /// Adds the storage as destination to a skopeo command.
    fn copy(&self, runner: &Runner, tag: &str, mut copy: Command) -> Command {
        match self {
            Self::Podman => {
                let (root, run) = (runner.path("containers"), runner.path("run"));
                // The storage belongs to root, so skopeo must not take itself for an unprivileged user's process.
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
    /// Measures all engines: they pull nixply's images from `nixply serve`, and nix2container's skopeo copies its own.
    pub(super) fn pull(&mut self, subject: &Subject) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if !host::is_root() {
            say("skipping the engines: they need root");
            return Ok(rows);
        }
        let peer = self.programs.nix2container_contender();
        for run in 1..=self.runs {
            for (engine, program) in [(Engine::Podman, "podman"), (Engine::Docker, "dockerd")] {
                if which::which(program).is_err() {
                    say(format!("skipping {program}: it is not installed"));
                    continue;
                }
                let ours = Sender::Nixply(self.nixply.clone());
                rows.extend(self.pulls(subject, engine, &ours, run)?);
                if let Some(peer) = &peer {
                    rows.extend(self.pulls(subject, engine, &Sender::Peer(peer.clone()), run)?);
                }
            }
        }
        Ok(rows)
    }

    /// Measures the pulls of one engine from one contender, up to the first that fails.
    fn pulls(&mut self, subject: &Subject, engine: Engine, sender: &Sender, run: u32) -> Result<Vec<Row>> {
        let pulls: Vec<(Scenario, Change)> = SCENARIOS
            .iter()
            .filter_map(|scenario| match scenario.work {
                Work::Pull { engine: any, change } if any == engine => Some((*scenario, change)),
                _ => None,
            })
            .collect();
        let images: Vec<Closure> = pulls
            .iter()
            .map(|(_, change)| self.closures.make(subject.size, *change))
            .collect::<Result<_>>()?;
        let storage = Storage::start(engine)?;
        let runner = Runner::new(self.scratch)?;
        let mut rows = Vec::new();
        for ((scenario, change), image) in pulls.iter().zip(&images) {
            output(&mut Command::new("sync"))?;
            let (name, codec) = (sender.contender().name(), storage.codec());
            let measured = sender.send(&storage, &runner, image, &change.name());
            let sent = measured.as_ref().ok().and_then(|(_, sent)| *sent);
            let what = format!("{}, {scenario}, {name}, run {run}", subject.size.name());
            let Some(usage) = self.note(&what, measured.map(|(usage, _)| usage)) else { break };
            rows.push(Row {
                layers: LAYERS as u64,
                codec: codec.to_string(),
                sent_bytes: sent.map(|(bytes, _)| bytes),
                sent_blobs: sent.map(|(_, blobs)| blobs),
                ..subject.row(*scenario, name, run, usage)
            });
        }
        Ok(rows)
    }
}

/// A contender that sends an image to an engine.
enum Sender {
    Nixply(Nixply),
    Peer(Nix2container),
}

impl Sender {
    fn contender(&self) -> &dyn Contender {
        match self {
            Self::Nixply(nixply) => nixply,
            Self::Peer(peer) => peer,
        }
    }

    /// Builds the image and copies it into the storage. For nixply, also returns the size and number of the served blobs.
    fn send(
        &self,
        storage: &Storage,
        runner: &Runner,
        image: &Closure,
        tag: &str,
    ) -> Result<(Usage, Option<(u64, u64)>)> {
        let built = self.contender().build(
            runner,
            &Image {
                closure: image,
                codec: storage.codec(),
                tag: tag.to_owned(),
                received: Received::Nothing,
            },
        )?;
        match self {
            Self::Nixply(nixply) => {
                let (taken, said) = nixply.serve(runner, tag, |reference| storage.pull(runner, reference))?;
                Ok((built + taken, Some(sent(&said)?)))
            }
            Self::Peer(peer) => {
                Ok((built + measure(&storage.copy(runner, tag, peer.copy(runner, tag)))?, None))
            }
        }
    }
}

/// Reads size and number of the blobs from a server's summary: "… sent 70 bytes (70 B) of 2 blobs".
fn sent(said: &str) -> Result<(u64, u64)> {
    let number = |before: &str, after: &str| {
        let (_, rest) = said.rsplit_once(before)?;
        rest.split_once(after)?.0.parse().ok()
    };
    number(" sent ", " bytes ")
        .zip(number(" of ", " blobs"))
        .with_context(|| format!("the server printed no summary: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_the_server_are_read() {
        let said = "serving on 127.0.0.1:1; Ctrl-C ends it\n\
                    answered 5 requests; packed 0 layers; sent 1010352 bytes (1.0 MB) of 2 blobs\n";
        assert_eq!(sent(said).unwrap(), (1_010_352, 2));
        assert!(sent("serving").is_err());
    }
}
