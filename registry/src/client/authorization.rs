//! The header `Authorization` of requests to one repository: the user's password, or a token of the registry's token service. Source:
//! distribution's "Token Authentication Specification" and "OAuth2 Token Authentication Specification".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nixply_documents::wording::quoted;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::answer::{self, registry_error};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::limits::Limits;
use super::location::PlainHosts;
use super::reference::Repository;
use super::retry::{Failure, Retry, is_passing, retry_after};
use crate::error::{Error, Result};

/// Lifetime of a token whose answer names none (Token Authentication Specification, `expires_in`).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Minimum length of a secret that is hidden in errors. Shorter ones would hide parts of words.
const MIN_SECRET: usize = 4;

/// Characters that are escaped in paths and queries: all but letters, digits, `-`, `.`, `_`, `~` and `/`.
const PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Gets and keeps the header of a repository's requests.
pub(super) struct Authorization {
    http: reqwest::Client,
    repository: Repository,
    /// Whether the registry's requests are encrypted.
    is_encrypted: bool,
    plain_hosts: PlainHosts,
    credentials: Option<Credentials>,
    /// The requested rights, in the form of the token specification.
    scopes: Vec<String>,
    limits: Arc<Limits>,
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
    /// Whether the registry has accepted the header.
    is_accepted: bool,
    /// Whether the token service refuses tokens for the other repositories.
    only_own: bool,
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
        (is_encrypted, plain_hosts): (bool, PlainHosts),
        credentials: Option<Credentials>,
        scopes: Vec<String>,
        limits: Arc<Limits>,
        requests: Arc<AtomicU64>,
    ) -> Self {
        let current = Mutex::default();
        Self { http, repository, is_encrypted, plain_hosts, credentials, scopes, limits, requests, current }
    }

    /// Returns the header, once the registry has demanded one, and the number of its renewal.
    pub(super) async fn header(&self) -> (Option<String>, u64) {
        let current = self.current.lock().await;
        (current.value.clone(), current.renewals)
    }

    /// Notes that the registry has accepted the header of this renewal.
    pub(super) async fn accepted(&self, used: u64) {
        let mut current = self.current.lock().await;
        current.is_accepted |= current.renewals == used;
    }

    /// Returns whether the header of this renewal was good once: it was accepted, or replaced since. Then the registry refuses it only
    /// because it has ended.
    pub(super) async fn was_accepted(&self, used: u64) -> bool {
        let current = self.current.lock().await;
        current.is_accepted || current.renewals > used
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
        current.is_accepted = false;
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
        current.is_accepted = false;
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

    /// Hides the secrets in code and message of an error: a registry may repeat what it has received.
    pub(super) async fn without_secrets(
        &self,
        url: &Url,
        error: (Option<String>, Option<String>),
    ) -> (Option<String>, Option<String>) {
        let value = self.current.lock().await.value.clone();
        self.hide(url, value.as_deref(), error)
    }

    fn hide(
        &self,
        url: &Url,
        header: Option<&str>,
        (code, message): (Option<String>, Option<String>),
    ) -> (Option<String>, Option<String>) {
        let mut secrets: Vec<String> = match &self.credentials {
            Some(Credentials::Basic { user, password }) => vec![password.clone(), basic(user, password)],
            Some(Credentials::IdentityToken(token)) => vec![token.clone()],
            None => Vec::new(),
        };
        secrets.extend(header.map(ToOwned::to_owned));
        let schemes = secrets.iter().filter_map(|secret| secret.split_once(' '));
        let bare: Vec<String> = schemes.map(|(_, secret)| secret.to_owned()).collect();
        secrets.extend(bare);
        // The query of a pre-signed URL.
        let query = url.query_pairs().filter(|(name, _)| !matches!(&**name, "digest" | "mount" | "from"));
        secrets.extend(query.map(|(_, value)| value.into_owned()));
        let encoded: Vec<String> = secrets.iter().flat_map(|secret| encodings(secret)).collect();
        secrets.extend(encoded);
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        // The longest first: it may contain others.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let hide = |text: String| secrets.iter().fold(text, |text, secret| text.replace(secret, "***"));
        (code.map(hide), message.map(hide))
    }

    async fn get_token(&self, current: &mut Current, challenge: Challenge) -> Result<()> {
        let Challenge::Bearer { realm, service } = &challenge else { return Ok(()) };
        let mut retry = Retry::new(&self.limits);
        let issued = Instant::now();
        let answer = loop {
            let scopes = &self.scopes[..if current.only_own { 1 } else { self.scopes.len() }];
            match self.token(realm, service.as_deref(), scopes).await {
                Ok(answer) => break answer,
                // Some services refuse all rights if one of them is refused.
                Err(Failure::Lasting(Error::Unauthorized { .. })) if scopes.len() > 1 => {
                    current.only_own = true
                }
                Err(failure) => retry.pause(failure, true).await?,
            }
        };
        let lifetime = answer.lifetime();
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed("the answer has no token".into()))?;
        current.value = Some(format!("Bearer {token}"));
        current.token = Some(Token { challenge, issued, lifetime });
        Ok(())
    }

    /// Asks the token service once.
    async fn token(&self, realm: &str, service: Option<&str>, scopes: &[String]) -> Result<Answer, Failure> {
        let lasting = |why| Failure::Lasting(self.failed(why));
        let mut url: Url =
            realm.parse().map_err(|_| lasting("the address of the token service is not a URL".into()))?;
        if url.scheme() != "https" && !self.allows_plain(&url) {
            let origin = url.origin().ascii_serialization();
            return Err(lasting(format!("the token service {} is not encrypted", quoted(&origin))));
        }
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token").append_pair("client_id", "nixply");
                form.append_pair("refresh_token", token).append_pair("scope", &scopes.join(" "));
                if let Some(service) = service {
                    form.append_pair("service", service);
                }
                let form_type = "application/x-www-form-urlencoded";
                self.http.post(url).header(CONTENT_TYPE, form_type).body(form.finish())
            }
            credentials => {
                for scope in scopes {
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
        let stall_timeout = self.limits.stall_timeout;
        let response = answer::within_progress(request, None, stall_timeout, (host, what)).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(Failure::Lasting(self.refused()));
        }
        if !status.is_success() {
            let named = retry_after(&response);
            let url = response.url().clone();
            let answer =
                registry_error(&answer::bytes(response, answer::MAX_DOCUMENT).await.unwrap_or_default());
            let (code, message) = self.hide(&url, None, answer);
            let (host, status_text) = (host.clone(), status.to_string());
            let error = Error::Refused { host, what: what.into(), status: status_text, code, message };
            return Err(if is_passing(status) {
                Failure::Passing(error, named)
            } else {
                Failure::Lasting(error)
            });
        }
        let text = answer::bytes(response, answer::MAX_DOCUMENT)
            .await
            .map_err(|error| Failure::Passing(self.failed(error.to_string()), None))?;
        serde_json::from_slice(&text).map_err(|_| lasting("the token service's answer is not a token".into()))
    }

    /// Returns whether the password may be sent to a URL without encryption: if the registry's requests are not encrypted either, to the
    /// registry's own host, and to those that the user allows.
    fn allows_plain(&self, url: &Url) -> bool {
        let own = Url::parse(&format!("http://{}/", self.repository.host)).ok();
        let is_own_host = own.is_some_and(|own| own.host() == url.host());
        !self.is_encrypted && (is_own_host || self.plain_hosts.allow(url))
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
    expires_in: Option<serde_json::Value>,
}

impl Answer {
    /// Returns the token's lifetime. Services write it as a number or as text.
    fn lifetime(&self) -> Duration {
        let seconds = self.expires_in.as_ref().and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        });
        let lifetime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        lifetime.unwrap_or(DEFAULT_LIFETIME)
    }
}

/// Returns a secret as it appears in URLs, JSON and headers.
fn encodings(secret: &str) -> [String; 5] {
    let json = serde_json::Value::from(secret).to_string();
    [
        form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        utf8_percent_encode(secret, &PATH).to_string(),
        json[1..json.len() - 1].to_owned(),
        data_encoding::BASE64.encode(secret.as_bytes()),
    ]
}

fn basic(user: &str, password: &str) -> String {
    let encoded = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    format!("Basic {encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_in_all_forms() {
        let forms = encodings("a+/= \"");
        for form in ["a%2B%2F%3D+%22", "a%2B%2F%3D%20%22", "a%2B/%3D%20%22", "a+/= \\\"", "YSsvPSAi"] {
            assert!(forms.iter().any(|known| known == form), "{form}: {forms:?}");
        }
    }
}
