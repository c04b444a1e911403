//! Serves an image on loopback to another program of this machine, for as long as that program runs. Nobody else gets any of it: the
//! registry answers only requests with its secret. The program reads the secret from a file that this user alone can read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use nixply_packer::cache::Cache;
use nixply_packer::image::spec::ImageSpec;
use nixply_registry::server::{Compression, Image, Options, Readers, Secret, Server};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::cache::CacheFlags;
use super::{Machine, serve};
use crate::transfer::Watch;
use crate::{temporary, terminal};

/// The environment's settings of machine and cache, for commands without such flags.
#[derive(Parser)]
pub(super) struct Settings {
    #[command(flatten)]
    pub(super) machine: Machine,

    #[command(flatten)]
    pub(super) cache: CacheFlags,
}

impl Settings {
    /// Reads the environment. Messages about wrong settings begin with `program`.
    pub(super) fn from_environment(program: &str) -> Result<Self, clap::Error> {
        Self::try_parse_from([program])
    }
}

/// A registry with one image.
pub(super) struct Loopback {
    server: Server,
    cache: Option<Cache>,
    watch: Option<Watch>,
    reference: String,
    secret: Secret,
    /// The directory of the files with the secret.
    folder: TempDir,
}

impl Loopback {
    /// Serves the image whose spec is `path`. `watch` shows the layers that are read.
    pub(super) fn start(
        settings: &Settings,
        path: &Path,
        spec: ImageSpec,
        compression: Compression,
        watch: Option<Watch>,
    ) -> Result<Self> {
        let cache = settings.cache.open();
        let secret = Secret::new()?;
        let folder = temporary::folder("nixply-secret-")?;
        let options = Options {
            compression,
            readers: Readers::User(secret.clone()),
            cache: cache.clone(),
            threads: settings.machine.jobs,
            check_store: settings.machine.check_store,
            scratch: serve::scratch_dir(),
            report: Arc::new(|error| terminal::error(error.chain())),
            observer: watch.as_ref().map_or_else(|| Arc::new(()) as _, Watch::observer),
            ..Options::new(settings.machine.store_of(path))
        };
        // The name appears only in the other program's messages.
        let name = serve::default_name(path);
        let image = Image::new(&name, "latest", spec.clone())
            .or_else(|_| Image::new("image", "latest", spec))
            .map_err(serve::known)?;
        let reference = image.reference();
        let server = Server::start(vec![image], options).map_err(serve::known)?;
        Ok(Self { server, cache, watch, reference, secret, folder })
    }

    /// ADDRESS:PORT/NAME:TAG.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.server.address(), self.reference)
    }

    /// Returns whether a request was answered, and whether one was refused.
    pub(super) fn reached(&self) -> Reached {
        let counts = self.server.counts();
        Reached { answered: counts.requests > counts.refused, refused: counts.refused > 0 }
    }

    /// Writes an auth file with this registry's secret, as skopeo's `--src-authfile` and podman's `REGISTRY_AUTH_FILE` take it
    /// (containers-auth.json(5)).
    pub(super) fn auth_file(&self) -> Result<PathBuf> {
        self.write("auth.json", &json!({ "auths": { self.host(): self.auth() } }))
    }

    /// Makes a directory for Docker's `DOCKER_CONFIG`: the user's own with this registry's secret in it. Gives none where the
    /// user's own cannot be read.
    pub(super) fn docker_config(&self, own: &Path) -> Result<Option<PathBuf>> {
        let config = match fs::read_to_string(own.join(DOCKER_CONFIG)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".into(),
            Err(_) => return Ok(None),
        };
        let Some(config) = with_auth(&config, &self.host(), self.auth()) else { return Ok(None) };
        // Contexts, which say where the daemon is, and plugins.
        for entry in fs::read_dir(own).into_iter().flatten().flatten() {
            if entry.file_name() != DOCKER_CONFIG {
                let failed = || format!("cannot link {}", entry.path().display());
                symlink(entry.path(), self.folder.path().join(entry.file_name())).with_context(failed)?;
            }
        }
        self.write(DOCKER_CONFIG, &config)?;
        Ok(Some(self.folder.path().into()))
    }

    /// The registry's name among others.
    fn host(&self) -> String {
        self.server.address().to_string()
    }

    fn auth(&self) -> Value {
        json!({ "auth": self.secret.basic() })
    }

    fn write(&self, name: &str, document: &Value) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let failed = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.with_context(failed)?.write_all(document.to_string().as_bytes()).with_context(failed)?;
        Ok(path)
    }

    /// Stops the registry. If the other program was successful, shows the layers that it has read.
    pub(super) fn stop(self, well: bool) {
        self.server.stop();
        if let Some(watch) = self.watch.filter(|_| well) {
            watch.finish();
        }
        self.cache.iter().for_each(Cache::trim);
    }
}

/// Docker's file within its directory.
const DOCKER_CONFIG: &str = "config.json";

/// The results of requests.
pub(super) struct Reached {
    pub(super) answered: bool,
    pub(super) refused: bool,
}

/// Docker's `config.json` with a registry's credentials in it. Gives none where it is no such document.
fn with_auth(config: &str, host: &str, auth: Value) -> Option<Value> {
    let mut config = serde_json::from_str::<Map<String, Value>>(config).ok()?;
    // The user's credential helpers do not know this registry: without a name, a helper is none.
    for (key, value) in [("auths", auth), ("credHelpers", Value::String(String::new()))] {
        let entry = config.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!({});
        }
        entry.as_object_mut()?.insert(host.into(), value);
    }
    Some(Value::Object(config))
}

/// failure.rs knows the packer's errors by their type.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_keeps_what_the_user_has_set() {
        let auth = || json!({ "auth": "c2VjcmV0" });
        let added = |config: &str| with_auth(config, "127.0.0.1:5000", auth());
        let expected = json!({
            "currentContext": "far", "credsStore": "pass",
            "auths": { "ghcr.io": {}, "127.0.0.1:5000": auth() },
            "credHelpers": { "gcr.io": "gcloud", "127.0.0.1:5000": "" },
        });
        let config = r#"{"currentContext": "far", "credsStore": "pass", "auths": {"ghcr.io": {}}, "credHelpers": {"gcr.io": "gcloud"}}"#;
        assert_eq!(added(config), Some(expected));
        let alone = json!({ "auths": { "127.0.0.1:5000": auth() }, "credHelpers": { "127.0.0.1:5000": "" } });
        assert_eq!(added(r#"{"auths": null}"#), Some(alone.clone()));
        assert_eq!(added("{}"), Some(alone));
        for wrong in ["", "[]", r#"{"auths": 1}"#] {
            assert_eq!(added(wrong), None, "{wrong}");
        }
    }
}
