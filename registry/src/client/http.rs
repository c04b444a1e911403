//! The HTTP client: proxies, TLS and time limits. It belongs to all requests of a process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect;

use super::credentials::{FindCredentials, FindTls, Tls};
use super::known::Known;
use super::limits::Limits;
use super::location;
use super::pace::Paces;
use super::reference::Repository;
use super::session::{Access, Session};
use crate::error::{Error, Result};

/// Maximum time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// The user's credentials.
    pub credentials: Arc<dyn FindCredentials>,
    /// The certificates of registries and of the user, beside the system's.
    pub tls: Arc<dyn FindTls>,
    /// Hosts, with ports, that speak plain HTTP. Loopback addresses and `localhost` always do, unless certificates are configured for them.
    pub plain_http: Vec<String>,
    /// Value of the header `User-Agent`.
    pub user_agent: String,
}

/// A client of registries. All its requests to one registry share connections and limits.
pub struct Client {
    options: Options,
    limits: Arc<Limits>,
    pub(super) hosts: Mutex<HashMap<String, Host>>,
    pub(super) known: Mutex<Known>,
}

/// The shared state of all requests to one registry.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) http: reqwest::Client,
    pub(super) is_plain: bool,
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
        Self { options, limits: Arc::new(limits), hosts: Mutex::default(), known: Mutex::default() }
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
        let is_plain = self.options.plain_http.contains(&repository.host)
            || location::is_this_machine(&repository.host) && tls.is_none();
        let http = self.http(&repository.host, tls.unwrap_or_default())?;
        let host = Host { http, is_plain, paces: Arc::default() };
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
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?);
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
