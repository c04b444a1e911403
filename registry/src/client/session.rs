//! Requests to one repository: authentication, limits, retries and errors.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nixply_documents::wording::quoted;
use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::answer::{self, registry_error};
use super::authorization::Authorization;
use super::credentials::Credentials;
use super::http::Host;
use super::limits::Limits;
use super::location::{self, PlainHosts, is_same_origin};
use super::pace::{Action, Paces};
use super::reference::Repository;
use super::retry::{Failure, Retry, is_overload, is_passing, retry_after};
use crate::content::body::SentBytes;
use crate::error::{Error, Result};

/// Maximum number of redirects, which lead to the registry's storage.
const MAX_REDIRECTS: usize = 5;

/// The rights that a session needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// Requests to one repository.
pub(super) struct Session {
    http: reqwest::Client,
    /// `https://HOST/v2/REPOSITORY/`.
    base: Url,
    repository: Repository,
    access: Access,
    authorization: Authorization,
    plain_hosts: PlainHosts,
    paces: Arc<Paces>,
    limits: Arc<Limits>,
    /// Whether the registry has answered a request.
    has_answered: AtomicBool,
    /// Whether the registry may accept a small blob in a single request.
    pub(super) takes_single_post: AtomicBool,
    /// Whether the registry may take blobs from other repositories.
    pub(super) takes_mounts: AtomicBool,
    requests: Arc<AtomicU64>,
}

/// A request, apart from its headers and body.
pub(super) struct Call<'c> {
    pub(super) action: Action,
    pub(super) method: Method,
    pub(super) url: Url,
    /// The action for errors.
    pub(super) what: &'c str,
    /// Progress of a long body.
    pub(super) sent: Option<Arc<SentBytes>>,
}

impl<'c> Call<'c> {
    /// Returns a request without a long body.
    pub(super) fn new(action: Action, method: Method, url: Url, what: &'c str) -> Self {
        Self { action, method, url, what, sent: None }
    }
}

impl Session {
    pub(super) fn new(
        host: Host,
        repository: Repository,
        credentials: Option<Credentials>,
        access: Access,
        sources: &[String],
        limits: &Arc<Limits>,
    ) -> Result<Self> {
        let Host { http, is_plain, plain_hosts, paces } = host;
        let scheme = if is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", repository.api_host(), repository.name);
        let base = base.parse().map_err(|_| Error::Reference {
            reference: repository.to_string(),
            why: format!("{} is not a host", quoted(&repository.host)),
        })?;
        let requests = Arc::<AtomicU64>::default();
        let rights = if access == Access::Push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{}:{rights}", repository.name)];
        scopes.extend(sources.iter().map(|source| format!("repository:{source}:pull")));
        let authorization = Authorization::new(
            http.clone(),
            repository.clone(),
            (!is_plain, plain_hosts.clone()),
            credentials,
            scopes,
            limits.clone(),
            requests.clone(),
        );
        Ok(Self {
            http,
            base,
            repository,
            access,
            authorization,
            plain_hosts,
            paces,
            limits: limits.clone(),
            has_answered: AtomicBool::new(false),
            takes_single_post: AtomicBool::new(true),
            takes_mounts: AtomicBool::new(true),
            requests,
        })
    }

    /// Number of requests so far, including tries and token requests.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Returns the state of the tries of a new action.
    pub(super) fn retry(&self) -> Retry {
        Retry::new(&self.limits)
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    /// Returns the URL of a path below the repository's.
    pub(super) fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("the path has only characters of a URL")
    }

    /// Sends a request until the registry answers it: with any status, except 401 and the statuses after which a retry may help. `build`
    /// adds headers and a body; it runs for each try.
    pub(super) async fn send<F>(
        &self,
        call: &Call<'_>,
        build: impl Fn(RequestBuilder) -> F,
    ) -> Result<Response>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        self.send_within(self.retry(), call, build).await
    }

    /// Sends a request like [`Session::send`], and follows redirects, without credentials on other hosts.
    pub(super) async fn send_redirected<F>(
        &self,
        mut call: Call<'_>,
        build: impl Fn(RequestBuilder) -> F,
    ) -> Result<Response>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&call, &build).await?;
            match answer.headers().get(LOCATION) {
                Some(_) if matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) => {
                    call.url = self.place(&answer)?
                }
                _ => return Ok(answer),
            }
        }
        let (host, what) = (self.repository.host.clone(), call.what.to_owned());
        let source = io::Error::other(format!("more than {MAX_REDIRECTS} redirects"));
        Err(Error::Answer { host, what, source })
    }

    /// Returns the place that an answer names for the next request.
    pub(super) fn place(&self, answer: &Response) -> Result<Url> {
        let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(place) = place.filter(|place| !place.is_empty()) else {
            let (host, why) = (self.repository.host.clone(), "the registry named no place");
            return Err(Error::Location { location: String::new(), host, why });
        };
        location::resolved(place, answer.url(), &self.plain_hosts)
    }

    /// Sends a request like [`Session::send`], with at most the tries that `retry` allows.
    pub(super) async fn send_within<F>(
        &self,
        mut retry: Retry,
        call: &Call<'_>,
        build: impl Fn(RequestBuilder) -> F,
    ) -> Result<Response>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        loop {
            match self.try_once(call, &build).await {
                Ok(response) => return Ok(response),
                Err(failure) => self.pause(&mut retry, failure).await?,
            }
        }
    }

    /// Waits until the next try, with a new authorization if the registry demands it. Returns the error if there should be no other try.
    pub(super) async fn pause(&self, retry: &mut Retry, failure: Failure) -> Result<()> {
        match failure {
            Failure::Unauthorized(response, used) => {
                // A token that other requests have used up, or that has ended, says nothing about the user's rights.
                let may_renew =
                    !retry.renewed || self.authorization.was_accepted(used).await && retry.may_renew_again();
                if !may_renew {
                    return Err(self.authorization.refused());
                }
                retry.renewed = true;
                self.authorization.renew(used, &response).await
            }
            failure => {
                // The authorization may end during the delay.
                retry.renewed = false;
                retry.pause(failure, self.has_answered.load(Ordering::Relaxed)).await
            }
        }
    }

    /// Makes sure that the authorization lives as long as the body of a request takes.
    pub(super) async fn keep_authorization_for(&self, duration: Duration) -> Result<()> {
        self.authorization.keep_for(duration).await
    }

    /// Sends a request once. Status 401, and a status after which a retry may help, are failures.
    pub(super) async fn try_once<F>(
        &self,
        call: &Call<'_>,
        build: &impl Fn(RequestBuilder) -> F,
    ) -> Result<Response, Failure>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        let Call { action, method, url, what, sent } = call;
        let _running = self.paces.begin(*action).await;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = self.http.request(method.clone(), url.clone());
        let mut used = 0;
        // No other host ever gets the credentials, or may ask for them.
        let is_registry = is_same_origin(url, &self.base);
        if is_registry {
            let (header, renewal) = self.authorization.header().await;
            used = renewal;
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
        }
        let request = build(request).await.map_err(Failure::Lasting)?;
        let host = &self.repository.host;
        let stall_timeout = self.limits.stall_timeout;
        let response = answer::within_progress(request, sent.as_deref(), stall_timeout, (host, what)).await?;
        self.has_answered.store(true, Ordering::Relaxed);
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && is_registry {
            return Err(Failure::Unauthorized(response, used));
        }
        if is_registry {
            self.authorization.accepted(used).await;
        }
        if is_overload(status) {
            self.paces.overloaded(*action);
        }
        if is_passing(status) {
            let named = retry_after(&response);
            return Err(Failure::Passing(self.refused(what, response).await, named));
        }
        if !status.is_client_error() {
            self.paces.succeeded(*action);
        }
        Ok(response)
    }

    /// Returns the error of an answer with an unexpected status.
    pub(super) async fn refused(&self, what: &str, response: Response) -> Error {
        let (status, url) = (response.status(), response.url().clone());
        let body = answer::bytes(response, answer::MAX_DOCUMENT).await.unwrap_or_default();
        let is_plain = self.base.scheme() == "http" && status == StatusCode::BAD_REQUEST;
        // The messages of Go's server and nginx.
        if is_plain && String::from_utf8_lossy(&body).contains("HTTPS") {
            return Error::NeedsTls { host: self.repository.host.clone() };
        }
        let (code, message) = self.authorization.without_secrets(&url, registry_error(&body)).await;
        Error::Refused {
            host: self.repository.host.clone(),
            what: what.into(),
            status: status.to_string(),
            code,
            message,
        }
    }
}
