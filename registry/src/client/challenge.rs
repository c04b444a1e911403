//! A registry's demand for authentication: the header `WWW-Authenticate` of an answer with status 401 (RFC 9110, 11.6.1).

/// The schemes that registries use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The request must have the user's name and password.
    Basic,
    /// The request must have a token of this service. Source: distribution's "Token Authentication Specification".
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name of the registry for the token service.
        service: Option<String>,
    },
}

impl Challenge {
    /// Returns the first challenge with a known scheme. Prefers tokens: a registry that offers both expects them.
    pub(super) fn of(headers: impl Iterator<Item = String>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            for challenge in http_auth::parse_challenges(&header).unwrap_or_default() {
                let parameter = |name: &str| {
                    let given = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    given.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    if let Some(realm) = parameter("realm") {
                        return Some(Self::Bearer { realm, service: parameter("service") });
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_preferred_and_other_schemes_are_ignored() {
        let of = |headers: &[&str]| Challenge::of(headers.iter().map(ToString::to_string));
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        assert_eq!(of(&["Basic realm=\"Registry\""]), Some(Challenge::Basic));
        assert_eq!(
            of(&[
                "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"repository:a:pull\""
            ]),
            bearer("https://auth.example/token", Some("r.example"))
        );
        assert_eq!(of(&["Basic realm=\"x\"", "bearer realm=\"https://a/t\""]), bearer("https://a/t", None));
        assert_eq!(of(&["Negotiate", "Digest realm=\"x\", nonce=\"y\""]), None);
        assert_eq!(of(&["Bearer service=\"x\""]), None);
        assert_eq!(of(&[]), None);
    }
}
