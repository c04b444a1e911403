//! nixply: `nixply build`, then skopeo copies from `nixply serve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nixply_packer::Codec;
use serde_json::{Value, json};

use super::contender::{Contender, LAYERS};
use super::runner::Runner;
use crate::side_by_side::closures::Closure;
use crate::side_by_side::measure::{Background, Usage, measure};

/// nixply.
#[derive(Clone)]
pub(crate) struct Nixply {
    /// The program.
    pub program: PathBuf,
    /// The store of the closures.
    pub store_dir: PathBuf,
    /// The skopeo that copies.
    pub skopeo: PathBuf,
}

impl Nixply {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).env("NIX_STORE_DIR", &self.store_dir);
        for variable in ["NIXPLY_CACHE_DIR", "NIXPLY_CACHE_SHARED", "NIXPLY_CACHE_LIMIT"] {
            command.env_remove(variable);
        }
        command
    }

    /// Serves the built image until a client has copied it. `take` returns the client's command for the image's reference. Also
    /// returns the server's messages.
    pub(crate) fn serve(
        &self,
        runner: &Runner,
        tag: &str,
        take: impl FnOnce(&str) -> Command,
    ) -> Result<(Usage, String)> {
        let mut serve = self.command("serve");
        serve.arg(runner.spec(tag)).args(["--name", &format!("bench:{tag}")]);
        serve.arg("--cache-dir").arg(runner.path("cache"));
        let (server, reference, started) = Background::start(&serve)?;
        let taken = measure(&take(&reference))?;
        let (mut served, said) = server.stop()?;
        // The user waits until the server is ready and for the copy, not for the server to stop.
        served.seconds = started.as_secs_f64();
        Ok((served + taken, said))
    }

    /// Returns the command `nixply build` for a request; without a cache directory, it uses no cache.
    pub(crate) fn build_command(
        &self,
        request: &Value,
        closure: &Path,
        cache: Option<&Path>,
        output: &Path,
    ) -> Result<Command> {
        let file = output.with_extension("request");
        fs::write(&file, request.to_string())?;
        let mut command = self.command("build");
        match cache {
            Some(cache) => command.arg("--cache-dir").arg(cache),
            None => command.arg("--no-cache"),
        };
        command.arg(file).arg("--closure").arg(closure).arg("-o").arg(output);
        Ok(command)
    }
}

/// Returns a request for nixply.
pub(crate) fn request(roots: &[String], layers: usize, strategy: &str, compression: Option<&str>) -> Value {
    let mut request = json!({
        "layers": [{"deps": roots, "maxLayers": layers, "strategy": strategy}], "arch": "amd64",
    });
    if let Some(compression) = compression {
        request["compression"] = json!(compression);
    }
    request
}

impl Contender for Nixply {
    fn name(&self) -> &'static str {
        "nixply"
    }

    fn build(&self, runner: &Runner, closure: &Closure, codec: Codec, tag: &str) -> Result<Usage> {
        let request = request(std::slice::from_ref(&closure.root), LAYERS, "size", Some(&codec.to_string()));
        let cache = runner.path("cache");
        measure(&self.build_command(&request, &closure.file, Some(&cache), &runner.spec(tag))?)
    }

    fn learn(&self, runner: &Runner, tag: &str) -> Result<Usage> {
        let mut import = self.command("cache");
        measure(import.arg("import").arg(runner.spec(tag)).arg("--cache-dir").arg(runner.path("cache")))
    }

    fn push(&self, runner: &Runner, _: Codec, tag: &str) -> Result<Usage> {
        let copied = self.serve(runner, tag, |reference| {
            let mut copy = runner.skopeo_copy(&self.skopeo);
            copy.arg("--src-tls-verify=false")
                .arg(format!("docker://{reference}"))
                .arg(runner.destination(tag));
            copy
        })?;
        Ok(copied.0)
    }
}
