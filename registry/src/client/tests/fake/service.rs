//! A token service and its tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Act, Fake, Got, Instead, Profile};

/// A token service. Its tokens are opaque texts.
#[derive(Clone)]
pub(in crate::client::tests) struct TokenService {
    fake: Arc<Fake>,
    tokens: Arc<Mutex<Tokens>>,
}

#[derive(Default)]
struct Tokens {
    /// The scopes of each valid token, and the number of requests that it still allows.
    valid: BTreeMap<String, (Vec<String>, usize)>,
    issued: usize,
    uses: Option<usize>,
    /// Members of the answer beside the token.
    more: Vec<(&'static str, serde_json::Value)>,
    denied: Vec<String>,
}

impl TokenService {
    /// Starts a service for the user with this header, or for everyone.
    pub(in crate::client::tests) fn start(user: Option<&'static str>) -> Self {
        Self::with(user, |_, _| None)
    }

    /// Starts a service whose answers to some requests are given. The number counts its requests, from 1.
    pub(in crate::client::tests) fn with(
        user: Option<&'static str>,
        instead: impl Fn(&Got, usize) -> Option<Instead> + Send + Sync + 'static,
    ) -> Self {
        let tokens = Arc::<Mutex<Tokens>>::default();
        let shared = tokens.clone();
        let count = std::sync::atomic::AtomicUsize::new(1);
        let fake = Fake::new(Profile::default(), move |got, _| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Act::Instead(instead(got, nth).unwrap_or_else(|| issue(&mut shared.lock().unwrap(), got, user)))
        });
        Self { fake: Arc::new(fake), tokens }
    }

    /// Lets each new token allow at most this number of requests.
    pub(in crate::client::tests) fn limited(self, uses: usize) -> Self {
        self.tokens.lock().unwrap().uses = Some(uses);
        self
    }

    /// Adds a member to all answers.
    pub(in crate::client::tests) fn answering(
        self,
        name: &'static str,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.tokens.lock().unwrap().more.push((name, value.into()));
        self
    }

    /// Leaves a repository out of all tokens.
    pub(in crate::client::tests) fn denying(self, repository: &str) -> Self {
        self.tokens.lock().unwrap().denied.push(repository.into());
        self
    }

    /// Ends the life of all tokens.
    pub(in crate::client::tests) fn expire(&self) {
        self.tokens.lock().unwrap().valid.clear();
    }

    /// Returns the lines of the requests since the last call.
    pub(in crate::client::tests) fn lines(&self) -> Vec<String> {
        self.fake.lines()
    }

    /// Returns the requests since the last call.
    pub(in crate::client::tests) fn requests(&self) -> Vec<Got> {
        self.fake.requests()
    }

    /// A registry's demand for a token.
    pub(in crate::client::tests) fn challenge(&self) -> String {
        format!("Bearer realm=\"http://{}/token\",service=\"r\"", self.fake.address)
    }

    /// Returns whether a token has all of these rights, such as `team/app` and `push`. Uses it up.
    pub(super) fn allows(&self, authorization: Option<&str>, rights: &[(&str, &str)]) -> bool {
        let mut tokens = self.tokens.lock().unwrap();
        let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
        let Some((scopes, left)) = token.and_then(|token| tokens.valid.get_mut(token)) else { return false };
        if *left == 0 {
            return false;
        }
        *left -= 1;
        rights.iter().all(|&(repository, right)| {
            scopes.iter().any(|scope| {
                let mut parts = scope.split(':');
                (parts.next(), parts.next()) == (Some("repository"), Some(repository))
                    && parts.next().is_some_and(|all| all.split(',').any(|one| one == right))
            })
        })
    }
}

fn issue(tokens: &mut Tokens, got: &Got, user: Option<&str>) -> Instead {
    if !got.is("GET", "/token?") || got.authorization.as_deref() != user {
        return Instead::error(401, "UNAUTHORIZED", "wrong password");
    }
    let query = got.line.split_once('?').unwrap().1;
    let pairs = form_urlencoded::parse(query.as_bytes());
    let scopes = pairs.filter(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned());
    let is_denied = |scope: &String| tokens.denied.iter().any(|name| scope.contains(&format!(":{name}:")));
    let scopes = scopes.filter(|scope| !is_denied(scope)).collect();
    tokens.issued += 1;
    let token = format!("opaque-{}", tokens.issued);
    tokens.valid.insert(token.clone(), (scopes, tokens.uses.unwrap_or(usize::MAX)));
    let mut answer = serde_json::json!({ "token": token });
    for (name, value) in &tokens.more {
        answer[*name] = value.clone();
    }
    Instead { body: answer.to_string(), ..Instead::new(200) }
}
