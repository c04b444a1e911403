//! The codecs that a client supports, by its User-Agent and Accept headers.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, USER_AGENT};

/// The best codec that a client supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientSupport {
    /// zstd and all others.
    Zstd,
    /// All but zstd.
    Gzip,
}

/// The versions since which clients support zstd layers, by the product in their User-Agent. Sources: Docker
/// Engine 23.0 release notes ("support for pulling images with zstd-compressed layers"), containerd 1.5
/// release notes. All other clients in use that accept OCI manifests support zstd, skopeo and podman since
/// 2019.
const ZSTD_SINCE: &[(&str, (u32, u32))] = &[("docker", (23, 0)), ("containerd", (1, 5))];

impl ClientSupport {
    /// Returns what the sender of a request supports.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        // Only OCI's media types have a name for zstd layers; Docker's have none.
        let knows_oci = accepted.flat_map(|value| value.split(',')).any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(nixply_oci::MANIFEST))
        });
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if knows_oci && agent.split_whitespace().next().is_none_or(supports_zstd) {
            Self::Zstd
        } else {
            Self::Gzip
        }
    }
}

/// Returns whether a product such as `docker/20.10.24` supports zstd. A version that cannot be parsed counts
/// as old.
fn supports_zstd(product: &str) -> bool {
    let (name, version) = product.split_once('/').unwrap_or((product, ""));
    let Some((_, since)) = ZSTD_SINCE.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
        return true;
    };
    let mut numbers =
        version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= *since
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
    fn support_is_derived_from_headers() {
        let docker = "docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1 os/linux arch/amd64";
        let both =
            format!("application/vnd.docker.distribution.manifest.v2+json, {};q=0.5", nixply_oci::MANIFEST);
        for (accept, agent, expected) in [
            (nixply_oci::MANIFEST, "skopeo/1.9.3", ClientSupport::Zstd),
            (nixply_oci::MANIFEST, "", ClientSupport::Zstd),
            (&both, "containers/5.23.1 (github.com/containers/image)", ClientSupport::Zstd),
            (&both, docker, ClientSupport::Gzip),
            (&both, "docker/23.0.0", ClientSupport::Zstd),
            (&both, "docker/28.2.2+dfsg1 go/go1.24", ClientSupport::Zstd),
            (&both, "Docker/1.13.1", ClientSupport::Gzip),
            (&both, "docker/dev", ClientSupport::Gzip),
            (&both, "containerd/1.4.13~ds1", ClientSupport::Gzip),
            (&both, "containerd/v1.5.0", ClientSupport::Zstd),
            (&both, "containerd/2.0.0+unknown", ClientSupport::Zstd),
            ("application/vnd.docker.distribution.manifest.v2+json", "skopeo/1.9.3", ClientSupport::Gzip),
            ("*/*", "curl/8", ClientSupport::Gzip),
            ("", "", ClientSupport::Gzip),
        ] {
            assert_eq!(support(accept, agent), expected, "{accept} {agent}");
        }
    }
}
