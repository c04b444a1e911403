//! nixply: `nixply build`, then skopeo copies from `nixply serve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::contender::{Contender, Image};
use super::runner::Runner;
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
    /// Returns a command that uses the store, and no cache unless an argument names one.
    pub(super) fn command(&self, verb: &str) -> Command {
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

    /// Returns the command `nixply build` for an image, with the runner's cache.
    pub(super) fn build_image(&self, runner: &Runner, image: &Image<'_>) -> Result<Command> {
        let roots = std::slice::from_ref(&image.closure.root);
        let request = request(roots, image.layers(), "size", Some(&image.codec.to_string()));
        let cache = runner.path("cache");
        self.build_command(&request, &image.closure.file, Some(&cache), &runner.spec(&image.tag))
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

    fn build(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        measure(&self.build_image(runner, image)?)
    }

    fn learn(&self, runner: &Runner, tag: &str) -> Result<Usage> {
        let mut import = self.command("cache");
        measure(import.arg("import").arg(runner.spec(tag)).arg("--cache-dir").arg(runner.path("cache")))
    }

    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage> {
        let copied = self.serve(runner, &image.tag, |reference| {
            let mut copy = runner.skopeo_copy(&self.skopeo);
            copy.arg("--src-tls-verify=false")
                .arg(format!("docker://{reference}"))
                .arg(runner.destination(&image.tag));
            copy
        })?;
        Ok(copied.0)
    }
}
