//! The codecs that a client supports, by its User-Agent and Accept headers.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, USER_AGENT};
use nixply_packer::Codec;

/// The clients that support a codec which some clients do not.
struct Rule {
    codec: &'static str,
    /// The versions since which clients support it, by the product in their User-Agent.
    since: &'static [(&'static str, (u32, u32))],
    /// Whether all other clients that accept OCI manifests support it.
    others: bool,
}

/// Rules for codecs that not every client supports. No client supports such a codec without a rule.
const RULES: &[Rule] = &[
    // Sources: Docker Engine 23.0 release notes ("support for pulling images with zstd-compressed layers"),
    // containerd 1.5 release notes. All other clients in use that accept OCI manifests support zstd, skopeo and
    // podman since 2019.
    Rule { codec: "zstd", since: &[("docker", (23, 0)), ("containerd", (1, 5))], others: true },
];

/// The codecs that a client supports: the universal ones, and those of some rules, whose bits are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientSupport(u32);

impl ClientSupport {
    /// Supports every codec that has a rule.
    pub(crate) const ALL: Self = Self((1 << RULES.len()) - 1);

    /// Supports only the codecs that every client supports.
    #[cfg(test)]
    pub(crate) const UNIVERSAL: Self = Self(0);

    /// All values, the one with the most codecs first.
    pub(crate) fn combinations() -> Vec<Self> {
        (0..=Self::ALL.0).rev().map(Self).collect()
    }

    /// Returns what the sender of a request supports.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        // Only OCI's media types have names for layers in these codecs; Docker's have none.
        let knows_oci = accepted(headers).any(|kind| kind.eq_ignore_ascii_case(nixply_oci::MANIFEST));
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let product = agent.split_whitespace().next().unwrap_or_default();
        let rules = RULES.iter().enumerate();
        let supported = rules.filter(|(_, rule)| knows_oci && rule.is_for(product));
        Self(supported.map(|(at, _)| 1 << at).sum())
    }

    /// Returns whether the client supports this codec.
    pub(crate) fn has(self, codec: Codec) -> bool {
        let is_ruled = |(at, rule): (usize, &Rule)| rule.codec == codec.name() && self.0 & (1 << at) != 0;
        codec.is_universal() || RULES.iter().enumerate().any(is_ruled)
    }
}

/// Returns the media types that the sender of a request accepts.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next().map(str::trim))
}

/// Returns whether the sender of a request accepts OCI indexes. Without a header it accepts everything (RFC 9110, 12.5.1).
pub(crate) fn accepts_indexes(headers: &HeaderMap) -> bool {
    let known = [nixply_oci::INDEX, "application/*", "*/*"];
    let mut accepted = accepted(headers).peekable();
    accepted.peek().is_none()
        || accepted.any(|kind| known.iter().any(|known| kind.eq_ignore_ascii_case(known)))
}

impl Rule {
    /// Returns whether a product such as `docker/20.10.24` supports the codec. A version that cannot be parsed
    /// counts as old.
    fn is_for(&self, product: &str) -> bool {
        let (name, version) = product.split_once('/').unwrap_or((product, ""));
        let Some((_, since)) = self.since.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
            return self.others;
        };
        let mut numbers =
            version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= *since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support(accept: &str, agent: &str) -> ClientSupport {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.append(ACCEPT, accept.parse().unwrap());
        }
        if !agent.is_empty() {
            headers.insert(USER_AGENT, agent.parse().unwrap());
        }
        ClientSupport::of(&headers)
    }

    #[test]
    fn zstd_support_is_derived_from_headers() {
        let zstd = "zstd".parse().unwrap();
        let docker = "docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1 os/linux arch/amd64";
        let both =
            format!("application/vnd.docker.distribution.manifest.v2+json, {};q=0.5", nixply_oci::MANIFEST);
        for (accept, agent, expected) in [
            (nixply_oci::MANIFEST, "skopeo/1.9.3", true),
            (nixply_oci::MANIFEST, "", true),
            (&both, "containers/5.23.1 (github.com/containers/image)", true),
            (&both, docker, false),
            (&both, "docker/23.0.0", true),
            (&both, "docker/28.2.2+dfsg1 go/go1.24", true),
            (&both, "Docker/1.13.1", false),
            (&both, "docker/dev", false),
            (&both, "containerd/1.4.13~ds1", false),
            (&both, "containerd/v1.5.0", true),
            (&both, "containerd/2.0.0+unknown", true),
            ("application/vnd.docker.distribution.manifest.v2+json", "skopeo/1.9.3", false),
            ("*/*", "curl/8", false),
            ("", "", false),
        ] {
            assert_eq!(support(accept, agent).has(zstd), expected, "{accept} {agent}");
        }
    }

    #[test]
    fn indexes_are_for_clients_that_accept_them() {
        for (accept, expected) in [
            (None, true),
            (Some("*/*"), true),
            (Some(nixply_oci::INDEX), true),
            (
                Some(
                    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json;q=0.5",
                ),
                true,
            ),
            (Some(nixply_oci::MANIFEST), false),
            (Some("application/vnd.docker.distribution.manifest.list.v2+json"), false),
        ] {
            let mut headers = HeaderMap::new();
            accept.into_iter().for_each(|accept| drop(headers.insert(ACCEPT, accept.parse().unwrap())));
            assert_eq!(accepts_indexes(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn every_rule_is_for_a_codec_that_some_clients_lack() {
        for rule in RULES {
            let codec: Codec = rule.codec.parse().unwrap();
            assert!(!codec.is_universal() && ClientSupport::ALL.has(codec), "{codec}");
            assert!(!ClientSupport::UNIVERSAL.has(codec), "{codec}");
        }
        assert_eq!(ClientSupport::combinations().first(), Some(&ClientSupport::ALL));
        assert_eq!(ClientSupport::combinations().last(), Some(&ClientSupport::UNIVERSAL));
    }
}
