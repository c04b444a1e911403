//! Requests to one repository: authentication, retries and errors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nixply_documents::wording::quoted;
use rand::Rng;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::location::is_same_origin;
use super::reference::Reference;
use crate::error::{Error, Result};

/// Maximum number of tries of a request.
const TRIES: u32 = 6;

/// Delay before the second try. It doubles before each further one.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Longest delay that a registry may request with `Retry-After`.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Maximum number of bytes of a registry's error message, token or manifest.
const MAX_BYTES: usize = 4 << 20;

/// Requests to one repository.
pub(super) struct Session {
    http: reqwest::Client,
    /// `https://HOST/v2/REPOSITORY/`.
    base: Url,
    reference: Reference,
    credentials: Option<Credentials>,
    /// Value of the header `Authorization`, once the registry has demanded one.
    authorization: Mutex<Option<String>>,
    requests: AtomicU64,
}

/// A failed try.
pub(super) enum Failure {
    /// Another try may succeed, after this delay if the registry names one.
    Passing(Error, Option<Duration>),
    /// The registry demands authentication.
    Unauthorized(Response),
    /// Another try would fail as well.
    Lasting(Error),
}

/// The state of the tries of one action.
pub(super) struct Retry {
    tries: u32,
    delay: Duration,
    /// Whether an answer with status 401 has led to a new authorization.
    renewed: bool,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { tries: 1, delay: FIRST_DELAY, renewed: false }
    }

    /// Waits until the next try, or returns the error if there should be none.
    pub(super) async fn after(&mut self, failure: Failure, session: &Session) -> Result<()> {
        match failure {
            Failure::Lasting(error) => Err(error),
            Failure::Unauthorized(_) if self.renewed => Err(session.unauthorized()),
            Failure::Unauthorized(response) => {
                self.renewed = true;
                session.authenticate(&response).await
            }
            Failure::Passing(error, _) if self.tries == TRIES => Err(error),
            Failure::Passing(_, named) => {
                let jitter = rand::rng().random_range(0.5..1.5);
                let pause = named.unwrap_or_else(|| self.delay.mul_f64(jitter)).min(LONGEST_DELAY);
                tokio::time::sleep(pause).await;
                self.tries += 1;
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
                Ok(())
            }
        }
    }
}

impl Session {
    pub(super) fn new(
        http: reqwest::Client,
        reference: Reference,
        plain_http: bool,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let scheme = if plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", reference.api_host(), reference.repository);
        let base = base.parse().map_err(|_| Error::Reference {
            reference: reference.to_string(),
            why: format!("{} is not a host", quoted(&reference.host)),
        })?;
        Ok(Self {
            http,
            base,
            reference,
            credentials,
            authorization: Mutex::default(),
            requests: AtomicU64::default(),
        })
    }

    /// Number of requests so far, including tries and token requests.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the URL of a path below the repository's.
    pub(super) fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("the path has only characters of a URL")
    }

    /// Sends a request until the registry answers it: with any status, except 401 and the statuses after which a retry may help. `build`
    /// adds headers and a body; it runs for each try. `what` names the action in errors.
    pub(super) async fn send<F>(
        &self,
        method: Method,
        url: Url,
        what: &str,
        build: impl Fn(RequestBuilder) -> F,
    ) -> Result<Response>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        let mut retry = Retry::new();
        loop {
            match self.try_once(&method, &url, what, &build).await {
                Ok(response) => return Ok(response),
                Err(failure) => retry.after(failure, self).await?,
            }
        }
    }

    /// Sends a request once. Status 401, and a status after which a retry may help, are failures.
    pub(super) async fn try_once<F>(
        &self,
        method: &Method,
        url: &Url,
        what: &str,
        build: &impl Fn(RequestBuilder) -> F,
    ) -> Result<Response, Failure>
    where
        F: Future<Output = Result<RequestBuilder>>,
    {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = self.http.request(method.clone(), url.clone());
        // No other host ever gets the credentials.
        if is_same_origin(url, &self.base)
            && let Some(authorization) = &*self.authorization.lock().await
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = build(request).await.map_err(Failure::Lasting)?;
        let response = request.send().await.map_err(|error| {
            // A URL may contain a signature.
            let source = error.without_url();
            let fails_again = source.is_builder() || source.is_redirect();
            let error = Error::Request { host: self.reference.host.clone(), what: what.into(), source };
            if fails_again { Failure::Lasting(error) } else { Failure::Passing(error, None) }
        })?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(Failure::Unauthorized(response));
        }
        let passing = status == StatusCode::REQUEST_TIMEOUT
            || status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        if passing {
            let named =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let error = self.refused(what, response).await;
            return Err(Failure::Passing(error, named.map(Duration::from_secs)));
        }
        Ok(response)
    }

    /// Returns the error of an answer with an unexpected status.
    pub(super) async fn refused(&self, what: &str, response: Response) -> Error {
        let status = response.status();
        let (code, message) = registry_error(&bytes(response).await.unwrap_or_default());
        Error::Refused {
            host: self.reference.host.clone(),
            what: what.into(),
            status: status.to_string(),
            code,
            message,
        }
    }

    /// Gets the authorization that the registry demands.
    async fn authenticate(&self, response: &Response) -> Result<()> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let challenge = Challenge::of(headers.filter_map(|value| value.to_str().ok().map(ToOwned::to_owned)));
        let value = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(Credentials::Basic { user, password })) => basic(user, password),
            (Some(Challenge::Bearer { realm, service }), _) => self.token(&realm, service.as_deref()).await?,
            (Some(Challenge::Basic), _) | (None, _) => return Err(self.unauthorized()),
        };
        *self.authorization.lock().await = Some(value);
        Ok(())
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String> {
        let host = &self.reference.host;
        let failed = |why: String| Error::Token { host: host.clone(), why };
        let mut url: Url = realm.parse().map_err(|_| failed(format!("{} is not a URL", quoted(realm))))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            return Err(failed(format!("the token service {} is not encrypted", quoted(realm))));
        }
        let scope = format!("repository:{}:pull,push", self.reference.repository);
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token").append_pair("client_id", "nixply");
                form.append_pair("refresh_token", token).append_pair("scope", &scope);
                if let Some(service) = service {
                    form.append_pair("service", service);
                }
                self.http
                    .post(url)
                    .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish())
            }
            credentials => {
                url.query_pairs_mut().append_pair("scope", &scope);
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                let request = self.http.get(url);
                match credentials {
                    Some(Credentials::Basic { user, password }) => {
                        request.header(AUTHORIZATION, basic(user, password))
                    }
                    _ => request,
                }
            }
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(|error| Error::Request {
            host: host.clone(),
            what: "get a token".into(),
            source: error.without_url(),
        })?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(self.unauthorized());
        }
        if !status.is_success() {
            return Err(self.refused("get a token", response).await);
        }
        let answer = bytes(response).await.map_err(|error| failed(error.to_string()))?;
        let answer: Token = serde_json::from_slice(&answer)
            .map_err(|_| failed("the token service's answer is not a token".into()))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| failed("the answer has no token".into()))
    }

    fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            host: self.reference.host.clone(),
            repository: self.reference.repository.clone(),
            anonymous: self.credentials.is_none(),
        }
    }
}

/// The answer of a token service.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(user: &str, password: &str) -> String {
    let encoded = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    format!("Basic {encoded}")
}

/// Reads a small body.
pub(super) async fn bytes(mut response: Response) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) =
        response.chunk().await.map_err(|error| std::io::Error::other(error.without_url()))?
    {
        all.extend_from_slice(&piece);
        if all.len() > MAX_BYTES {
            return Err(std::io::Error::other(format!("the answer has more than {MAX_BYTES} bytes")));
        }
    }
    Ok(all)
}

/// Returns code and message of the first error in a registry's answer (distribution-spec, "Error codes").
fn registry_error(body: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let answer = serde_json::from_slice::<Answer>(body).ok();
    let first = answer.and_then(|answer| answer.errors.into_iter().next());
    first.map_or((None, None), |error| (error.code, error.message.filter(|text| !text.is_empty())))
}
