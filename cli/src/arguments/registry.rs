//! The flags of commands that talk to a registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use nixply_files::given;
use nixply_packer::{Cache, SegmentSource};
use nixply_registry::client::{Client, Credentials, FindCredentials, Frames, Options, Reference};

use crate::certificates::CertificateFiles;
use crate::credentials::CredentialFiles;
use crate::documents::name_of;
use crate::failure::{Hint, hinted};
use crate::terminal::{self, count, human, say};
use crate::{diagnosis, process};

/// Credentials and certificates for a registry.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// File with the registry's credentials, in the form of containers-auth.json(5) [default: REGISTRY_AUTH_FILE, otherwise the files
    /// of podman, skopeo and Docker]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// File with USER:PASSWORD for the registry of the first reference; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "auth_file")]
    creds_file: Option<PathBuf>,

    /// Directory with certificates for the registry, as in containers-certs.d(5): *.crt of authorities, *.cert and *.key of the
    /// client [default: certs.d/HOST:PORT in /etc/containers, /etc/docker, and containers in the XDG configuration directory]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,

    /// Use plain HTTP for this host; without a port, for all of its ports. Loopback addresses without certificates need no flag. Can be repeated
    #[arg(long = "plain-http", value_name = "HOST[:PORT]", value_parser = plain_host)]
    plain_http: Vec<String>,
}

/// Parses a host with an optional port. clap prints the error.
fn plain_host(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Err("name only the host, perhaps with a port, as in registry.example:5000".into()),
        false => Ok(text.into()),
    }
}

/// Parses a reference. clap prints the error.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error: nixply_registry::Error| error.to_string())
}

impl RegistryArgs {
    /// Returns a client. The credentials of `--creds-file` are for the host of `first` only.
    pub(crate) fn client(&self, first: &Reference) -> Result<Client> {
        self.client_with(first, CertificateFiles::new(self.cert_dir.clone()))
    }

    /// Returns a client with these certificates.
    pub(crate) fn client_with(&self, first: &Reference, certificates: CertificateFiles) -> Result<Client> {
        let files = self.auth_file.as_deref().map_or_else(CredentialFiles::of_user, CredentialFiles::only);
        let given = self.creds_file.as_deref().map(read_credentials).transpose()?;
        let given = given.map(|credentials| (first.repository.host.clone(), credentials));
        Ok(Client::new(Options {
            credentials: Arc::new(UserCredentials { given, files }),
            tls: Arc::new(certificates),
            plain_http: self.plain_http.clone(),
            user_agent: format!("nixply/{}", env!("CARGO_PKG_VERSION")),
        }))
    }
}

/// The credentials that the user gives for one host, and those in files for the others.
struct UserCredentials {
    given: Option<(String, Credentials)>,
    files: CredentialFiles,
}

impl FindCredentials for UserCredentials {
    fn find(&self, host: &str, repository: &str) -> nixply_registry::Result<Option<Credentials>> {
        match &self.given {
            Some((given, credentials)) if given == host => Ok(Some(credentials.clone())),
            _ => self.files.find(host, repository),
        }
    }
}

/// Reads `USER:PASSWORD`. Errors do not contain the text.
fn read_credentials(file: &Path) -> Result<Credentials> {
    let name = name_of(file);
    let text = match file.as_os_str() == "-" {
        true => given::standard_input(&process::stopped),
        false => given::text(file, &process::stopped),
    };
    let text =
        process::unless_stopped(text).with_context(|| format!("cannot read the credentials in {name}"))?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.trim_end_matches('\r'));
    let pair = line.split_once(':').filter(|(user, _)| !user.is_empty() && !line.contains('\n'));
    let (user, password) = pair.with_context(|| format!("{name} is not one line USER:PASSWORD"))?;
    Ok(Credentials::Basic { user: user.into(), password: password.into() })
}

/// Images in registries whose layers need not be packed.
#[derive(clap::Args)]
pub(crate) struct CacheFromArgs {
    /// Image in a registry that nixply pushed, such as ghcr.io/team/app:main: layers that it has are not packed. A reference of
    /// --cache-to provides compressed frames. Can be repeated. Only for repositories that you trust: their digests are not checked until a layer is packed
    #[arg(long = "cache-from", value_name = "REFERENCE", value_parser = reference, help_heading = "Cache")]
    pub(crate) cache_from: Vec<Reference>,
}

/// What the images of `--cache-from` provide.
#[derive(Default)]
pub(crate) struct Learned {
    /// Number of layers that are in the cache now.
    pub(crate) layers: usize,
    /// Frames of layers, from `--cache-to`.
    pub(crate) frames: Vec<Arc<Frames>>,
}

impl Learned {
    /// Returns the frames as sources for the packer.
    pub(crate) fn sources(&self) -> Vec<Arc<dyn SegmentSource>> {
        self.frames.iter().map(|frames| frames.clone() as _).collect()
    }

    /// Reports the fetched frames.
    pub(crate) fn report(&self, quiet: bool) {
        for frames in &self.frames {
            if let Some(why) = frames.problem() {
                terminal::warning(format!("frames of {} were not used: {why}", frames.reference()));
            }
            let (segments, bytes) = frames.fetched();
            if segments > 0 && !quiet {
                let segments = count(usize::try_from(segments).unwrap_or(usize::MAX), "store path");
                say(format!(
                    "fetched the frames of {segments} ({}) from {}",
                    human(bytes),
                    frames.reference()
                ));
            }
        }
    }
}

impl CacheFromArgs {
    /// Adds the layers of these images to the cache. An image that does not exist yet has none.
    pub(crate) fn learn(&self, client: &Client, cache: Option<&Cache>) -> Result<Learned> {
        let mut learned = Learned::default();
        for reference in &self.cache_from {
            let Some(cache) = cache else {
                let error = anyhow::anyhow!("--cache-from needs the cache, and there is none");
                return Err(hinted(error, "omit --no-cache, and set HOME or --cache-dir"));
            };
            let found = client.learn(reference).map_err(diagnosis::of_registry)?;
            for (key, packed) in found.layers {
                cache
                    .import_from_registry(key, &packed, &reference.to_string())
                    .hint("pass --cache-dir DIR to use another directory")?;
                learned.layers += 1;
            }
            learned.frames.extend(found.frames.map(Arc::new));
        }
        Ok(learned)
    }
}
