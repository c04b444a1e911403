//! The HTTP client: proxies, TLS and time limits. It belongs to all requests of a process.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect;
use tokio::runtime::{Builder, Runtime};

use super::credentials::{FindCredentials, FindTls, Tls};
use super::known::Known;
use super::limits::Limits;
use super::location::{self, PlainHosts};
use super::pace::Paces;
use super::reference::Repository;
use super::session::{Access, Session};
use crate::error::{Error, Result};

/// Maximum time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of threads that handle requests. Other threads pack, read files and wait.
const WORKER_THREADS: usize = 2;

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// The user's credentials.
    pub credentials: Arc<dyn FindCredentials>,
    /// The certificates of registries and of the user, beside the system's.
    pub tls: Arc<dyn FindTls>,
    /// Hosts that speak plain HTTP, each with one port or with all. Loopback addresses and `localhost` always do, unless certificates are configured for them.
    pub plain_http: Vec<String>,
    /// Value of the header `User-Agent`.
    pub user_agent: String,
}

/// A client of registries. All its requests to one registry share connections and limits. Its methods block.
pub struct Client {
    options: Options,
    limits: Arc<Limits>,
    /// Runs all requests: a connection lives as long as the runtime on which it was made.
    runtime: Mutex<Option<Arc<Runtime>>>,
    pub(super) hosts: Mutex<HashMap<String, Host>>,
    pub(super) known: Mutex<Known>,
    pub(super) stop: Arc<AtomicBool>,
}

/// The shared state of all requests to one registry.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) http: reqwest::Client,
    pub(super) is_plain: bool,
    /// Hosts to which the registry may direct the client without encryption.
    pub(super) plain_hosts: PlainHosts,
    pub(super) paces: Arc<Paces>,
}

impl Client {
    /// Makes a client. It opens no connection.
    pub fn new(options: Options) -> Self {
        Self::with_limits(options, Limits::default())
    }

    pub(super) fn with_limits(options: Options, limits: Limits) -> Self {
        // An error means that the process already has a provider of cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (runtime, hosts, known, stop) = Default::default();
        Self { options, limits: Arc::new(limits), runtime, hosts, known, stop }
    }

    /// Ends all reads with [`Interrupted`](nixply_packer::Error::Interrupted) when this flag is set.
    pub fn stopping_at(self, stop: &Arc<AtomicBool>) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Returns the runtime of all requests.
    pub(super) fn runtime(&self) -> Result<Arc<Runtime>> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.clone());
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(WORKER_THREADS).thread_name("nixply-client").enable_all();
        Ok(runtime.insert(Arc::new(builder.build().map_err(Error::Start)?)).clone())
    }

    /// Returns a session for requests to one repository. `sources` are repositories of the same registry whose blobs it reads as well.
    pub(super) fn session(
        &self,
        repository: &Repository,
        access: Access,
        sources: &[String],
    ) -> Result<Session> {
        let host = self.host(repository)?;
        let credentials = self.options.credentials.find(&repository.host, &repository.name)?;
        Session::new(host, repository.clone(), credentials, access, sources, &self.limits)
    }

    fn host(&self, repository: &Repository) -> Result<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(&repository.host) {
            return Ok(host.clone());
        }
        let tls = self.options.tls.find(&repository.host)?;
        let plain_hosts = PlainHosts::new(&self.options.plain_http);
        let is_plain = plain_hosts.names(&repository.host)
            || location::is_this_machine(&repository.host) && tls.is_none();
        let http = self.http(&repository.host, tls.unwrap_or_default())?;
        let host = Host { http, is_plain, plain_hosts, paces: Arc::default() };
        hosts.insert(repository.host.clone(), host.clone());
        Ok(host)
    }

    fn http(&self, host: &str, tls: Tls) -> Result<reqwest::Client> {
        let failed = |source: reqwest::Error| Error::Client { host: host.into(), source };
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.options.user_agent)
            // HTTP/2's flow control slows down uploads.
            .http1_only()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        let mut authorities = Vec::new();
        for pem in &tls.authorities {
            let found = reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?;
            if found.is_empty() {
                let why = "a file *.crt has no certificate in the form PEM".to_owned();
                return Err(Error::Certificates { host: host.into(), why });
            }
            authorities.extend(found);
        }
        if !authorities.is_empty() {
            builder = builder.tls_certs_merge(authorities);
        }
        if let Some(pem) = &tls.identity {
            builder = builder.identity(reqwest::Identity::from_pem(pem).map_err(failed)?);
        }
        builder.build().map_err(failed)
    }
}
