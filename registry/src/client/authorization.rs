//! The header `Authorization` of requests to one repository: the user's password, or a token of the registry's token service. Source:
//! distribution's "Token Authentication Specification" and "OAuth2 Token Authentication Specification".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nixply_documents::wording::quoted;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::answer::{self, registry_error};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::reference::Repository;
use super::retry::{Failure, Retry, is_passing, retry_after};
use crate::error::{Error, Result};

/// Lifetime of a token whose answer names none (Token Authentication Specification, `expires_in`).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Gets and keeps the header of a repository's requests.
pub(super) struct Authorization {
    http: reqwest::Client,
    repository: Repository,
    /// Whether the registry's requests are encrypted.
    is_encrypted: bool,
    credentials: Option<Credentials>,
    /// The requested rights, in the form of the token specification.
    scopes: Vec<String>,
    requests: Arc<AtomicU64>,
    current: Mutex<Current>,
}

/// The current header.
#[derive(Default)]
struct Current {
    value: Option<String>,
    /// Number of renewals. A request that failed with an older value needs no renewal.
    renewals: u64,
    token: Option<Token>,
}

/// A token's origin and lifetime.
struct Token {
    challenge: Challenge,
    issued: Instant,
    lifetime: Duration,
}

impl Authorization {
    pub(super) fn new(
        http: reqwest::Client,
        repository: Repository,
        is_encrypted: bool,
        credentials: Option<Credentials>,
        scopes: Vec<String>,
        requests: Arc<AtomicU64>,
    ) -> Self {
        Self { http, repository, is_encrypted, credentials, scopes, requests, current: Mutex::default() }
    }

    /// Returns the header, once the registry has demanded one, and the number of its renewal.
    pub(super) async fn header(&self) -> (Option<String>, u64) {
        let current = self.current.lock().await;
        (current.value.clone(), current.renewals)
    }

    /// Gets the authorization that the registry demands in the answer to a request with the renewal `used`. Requests that fail at the
    /// same time wait for one renewal.
    pub(super) async fn renew(&self, used: u64, response: &Response) -> Result<()> {
        let mut current = self.current.lock().await;
        if current.renewals > used {
            return Ok(());
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let challenge = Challenge::of(headers.filter_map(|value| value.to_str().ok().map(ToOwned::to_owned)));
        match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(Credentials::Basic { user, password })) => {
                current.value = Some(basic(user, password));
                current.token = None;
            }
            (Some(challenge @ Challenge::Bearer { .. }), _) => {
                self.get_token(&mut current, challenge).await?
            }
            (Some(Challenge::Basic), _) | (None, _) => return Err(self.refused()),
        }
        current.renewals += 1;
        Ok(())
    }

    /// Renews a token that would expire within `duration`, unless it was issued only now: a service may issue tokens that live shorter.
    pub(super) async fn keep_for(&self, duration: Duration) -> Result<()> {
        let mut current = self.current.lock().await;
        let Some(Token { challenge, issued, lifetime }) = &current.token else { return Ok(()) };
        let age = issued.elapsed();
        if age + duration < *lifetime || age < *lifetime / 10 {
            return Ok(());
        }
        let challenge = challenge.clone();
        self.get_token(&mut current, challenge).await?;
        current.renewals += 1;
        Ok(())
    }

    /// Returns the error of a registry that does not accept the credentials.
    pub(super) fn refused(&self) -> Error {
        Error::Unauthorized {
            host: self.repository.host.clone(),
            repository: self.repository.name.clone(),
            anonymous: self.credentials.is_none(),
        }
    }

    async fn get_token(&self, current: &mut Current, challenge: Challenge) -> Result<()> {
        let Challenge::Bearer { realm, service } = &challenge else { return Ok(()) };
        let mut retry = Retry::new();
        let issued = Instant::now();
        let answer = loop {
            match self.token(realm, service.as_deref()).await {
                Ok(answer) => break answer,
                Err(failure) => retry.pause(failure, true).await?,
            }
        };
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed("the answer has no token".into()))?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        current.value = Some(format!("Bearer {token}"));
        current.token = Some(Token { challenge, issued, lifetime });
        Ok(())
    }

    /// Asks the token service once.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Answer, Failure> {
        let lasting = |why| Failure::Lasting(self.failed(why));
        let mut url: Url = realm.parse().map_err(|_| lasting(format!("{} is not a URL", quoted(realm))))?;
        if url.scheme() != "https" && self.is_encrypted {
            return Err(lasting(format!("the token service {} is not encrypted", quoted(realm))));
        }
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token").append_pair("client_id", "nixply");
                form.append_pair("refresh_token", token).append_pair("scope", &self.scopes.join(" "));
                if let Some(service) = service {
                    form.append_pair("service", service);
                }
                let form_type = "application/x-www-form-urlencoded";
                self.http.post(url).header(CONTENT_TYPE, form_type).body(form.finish())
            }
            credentials => {
                for scope in &self.scopes {
                    url.query_pairs_mut().append_pair("scope", scope);
                }
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
        let what = "get a token";
        let host = &self.repository.host;
        let response = answer::within_progress(request.send(), None)
            .await
            .ok_or_else(|| Failure::Passing(answer::stalled(host, what), None))?
            .map_err(|error| answer::not_answered(error, host, what))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(Failure::Lasting(self.refused()));
        }
        if !status.is_success() {
            let named = retry_after(&response);
            let (code, message) = registry_error(&answer::bytes(response).await.unwrap_or_default());
            let (host, status_text) = (host.clone(), status.to_string());
            let error = Error::Refused { host, what: what.into(), status: status_text, code, message };
            return Err(if is_passing(status) {
                Failure::Passing(error, named)
            } else {
                Failure::Lasting(error)
            });
        }
        let text = answer::bytes(response)
            .await
            .map_err(|error| Failure::Passing(self.failed(error.to_string()), None))?;
        serde_json::from_slice(&text).map_err(|_| lasting("the token service's answer is not a token".into()))
    }

    fn failed(&self, why: String) -> Error {
        Error::Token { host: self.repository.host.clone(), why }
    }
}

/// The answer of a token service.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn basic(user: &str, password: &str) -> String {
    let encoded = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    format!("Basic {encoded}")
}
