//! A registry on loopback for one other program of this machine. It answers only requests with its secret, which that program reads
//! from a file that only this user can read. So no other user can pull the image.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use nixply_packer::Cache;
use nixply_registry::content::{Compression, Settings};
use nixply_registry::server::{Options, Readers, Secret, Server};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::arguments::EnvironmentArgs;
use crate::documents::{Content, SpecFile};
use crate::transfer::Watch;
use crate::{diagnosis, temporary, terminal};

/// A registry with one image.
pub(crate) struct PrivateRegistry {
    server: Server,
    cache: Option<Cache>,
    watch: Option<Watch>,
    reference: String,
    secret: Secret,
    /// Directory of the files with the secret, and of converted layers.
    directory: TempDir,
    _converted: Option<TempDir>,
}

impl PrivateRegistry {
    /// Serves an image or an image index. `watch` shows which layers the program reads.
    pub(crate) fn start<S: Clone + Into<Content>>(
        settings: &EnvironmentArgs,
        file: &SpecFile<S>,
        compression: Compression,
        watch: Option<Watch>,
    ) -> Result<Self> {
        let scratch = temporary::large_files();
        let (images, converted) = super::converted(file, compression, &scratch)?;
        let cache = settings.cache.open();
        let secret = Secret::new()?;
        let directory = temporary::directory("nixply-secret-")?;
        let content = Settings {
            compression,
            cache: cache.clone(),
            threads: settings.store.jobs,
            check_store: settings.store.check_store,
            scratch,
            report: Arc::new(|error| terminal::error(error.chain())),
            observer: watch.as_ref().map_or_else(|| Arc::new(()) as _, Watch::observer),
            realise: Arc::new(()),
            ..Settings::new(file.store.clone())
        };
        let options =
            Options { readers: Readers::User(secret.clone()), content, ..Options::new(file.store.clone()) };
        // The name appears only in the other program's messages.
        let image = images
            .clone()
            .named(&file.name, "latest")
            .or_else(|_| images.named("image", "latest"))
            .map_err(diagnosis::of_registry)?;
        let reference = image.reference();
        let server = super::start(vec![image], options)?;
        Ok(Self { server, cache, watch, reference, secret, directory, _converted: converted })
    }

    /// Returns ADDRESS:PORT/NAME:TAG.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.server.address(), self.reference)
    }

    /// Returns whether the registry has answered a request, and whether it has refused one.
    pub(crate) fn reached(&self) -> Reached {
        let counts = self.server.counts();
        Reached { answered: counts.requests > counts.refused, refused: counts.refused > 0 }
    }

    /// Writes an auth file with the secret, as skopeo's `--src-authfile` and podman's `REGISTRY_AUTH_FILE` take it
    /// (containers-auth.json(5)).
    pub(crate) fn auth_file(&self) -> Result<PathBuf> {
        self.write("auth.json", &json!({ "auths": { self.host(): self.auth() } }))
    }

    /// Makes a directory for Docker's `DOCKER_CONFIG`: the user's own, plus the secret. Returns `None` if the user's own cannot be
    /// read.
    pub(crate) fn docker_config(&self, own: &Path) -> Result<Option<PathBuf>> {
        let config = match fs::read_to_string(own.join(DOCKER_CONFIG)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".into(),
            Err(_) => return Ok(None),
        };
        let Some(config) = with_auth(&config, &self.host(), self.auth()) else { return Ok(None) };
        // Link the rest of the user's directory: contexts, which name the daemon's address, and plugins.
        for entry in fs::read_dir(own).into_iter().flatten().flatten() {
            if entry.file_name() != DOCKER_CONFIG {
                let failed = || format!("cannot link {}", entry.path().display());
                symlink(entry.path(), self.directory.path().join(entry.file_name())).with_context(failed)?;
            }
        }
        self.write(DOCKER_CONFIG, &config)?;
        Ok(Some(self.directory.path().into()))
    }

    /// Returns the registry's key in auth files.
    fn host(&self) -> String {
        self.server.address().to_string()
    }

    fn auth(&self) -> Value {
        json!({ "auth": self.secret.basic() })
    }

    fn write(&self, name: &str, document: &Value) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        let failed = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.with_context(failed)?.write_all(document.to_string().as_bytes()).with_context(failed)?;
        Ok(path)
    }

    /// Stops the registry. If the other program was successful, shows which layers it has read.
    pub(crate) fn stop(self, success: bool) {
        self.server.stop();
        if let Some(watch) = self.watch.filter(|_| success) {
            watch.finish();
        }
        self.cache.iter().for_each(Cache::trim);
    }
}

/// Docker's settings file in its directory.
const DOCKER_CONFIG: &str = "config.json";

/// Whether the registry answered and refused requests of the other program.
pub(crate) struct Reached {
    pub(crate) answered: bool,
    pub(crate) refused: bool,
}

/// Adds a registry's credentials to Docker's `config.json`. Returns `None` if `config` is not such a document.
fn with_auth(config: &str, host: &str, auth: Value) -> Option<Value> {
    let mut config = serde_json::from_str::<Map<String, Value>>(config).ok()?;
    // The user's credential helpers do not know this registry. An empty name means no helper.
    for (key, value) in [("auths", auth), ("credHelpers", Value::String(String::new()))] {
        let entry = config.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!({});
        }
        entry.as_object_mut()?.insert(host.into(), value);
    }
    Some(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_config_keeps_the_users_settings() {
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
