//! Checks where a registry directs a client: for an upload, to a manifest or a blob, or to a service without encryption.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use reqwest::Url;

use crate::error::{Error, Result};

/// Returns the URL of the header `Location`, resolved against the URL of the request.
///
/// Refuses a private address on another host: a registry could direct the client's bytes to a service of the client's own network.
/// A TLS proxy in front of a registry may cause locations with `http` on the same host; these use `https`.
pub(super) fn resolved(location: &str, request: &Url, plain: &PlainHosts) -> Result<Url> {
    let wrong = |why| Error::Location { location: without_secrets(location), host: host(request), why };
    let mut url = request.join(location).map_err(|_| wrong("it is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it is not a URL of HTTP"));
    }
    // The client would send them as a password. It has no password for this place.
    let _ = (url.set_username(""), url.set_password(None));
    if url.host() == request.host() {
        if request.scheme() == "https" && url.scheme() == "http" {
            // The port of an http URL is the proxy's internal one, or absent.
            url.set_scheme("https").map_err(|()| wrong("it is not a URL"))?;
            let _ = url.set_port(request.port());
        }
        return Ok(url);
    }
    // A name may end with the root's dot.
    let named = url.host_str().unwrap_or_default().trim_end_matches('.');
    let address = named.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let named_local = named == "localhost" || named.ends_with(".localhost");
    // Storage of a registry on this machine may be there as well.
    let is_from_here = is_this_machine(&host(request)) && is_this_machine(named);
    if !is_from_here && (named_local || address.is_some_and(is_private)) {
        return Err(wrong("it is a private address on another host"));
    }
    if url.scheme() == "http" && (request.scheme() == "https" || !plain.allow(&url)) {
        return Err(wrong("it is not encrypted"));
    }
    Ok(url)
}

/// Hosts that the client may talk to without encryption, each with one port or with all.
#[derive(Debug, Clone, Default)]
pub(super) struct PlainHosts(Arc<[String]>);

impl PlainHosts {
    pub(super) fn new(named: &[String]) -> Self {
        Self(named.iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    /// Returns whether the user has named this host, with its port or with any port.
    pub(super) fn names(&self, host: &str) -> bool {
        let host = &*host.to_ascii_lowercase();
        let without_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let without_port = without_port.map_or(host, |(name, _)| name);
        self.0.iter().any(|named| named == host || named == without_port)
    }

    /// Returns whether a URL needs no encryption: its host is this machine, or the user has named it.
    pub(super) fn allow(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        is_this_machine(host) || self.names(&format!("{host}:{port}"))
    }
}

/// Returns whether two URLs have the same scheme, host and port. Only then does a request to one carry the credentials of the other.
pub(super) fn is_same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Returns whether a host, perhaps with a port, is this machine.
pub(super) fn is_this_machine(host: &str) -> bool {
    let url = Url::parse(&format!("http://{host}/")).ok();
    let named = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    named == "localhost" || named.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns scheme, host and port of a URL. Its path and query may contain a signature.
fn without_secrets(location: &str) -> String {
    match Url::parse(location) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => "a URL that cannot be read".into(),
    }
}

/// Returns host and port of a URL.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns whether an address is not one of the public network. Source: IANA's registries of special-purpose addresses.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                // "This network", addresses between provider and customer, protocol assignments, benchmarks.
                || a == 0
                || a == 100 && (64..128).contains(&b)
                || (a, b, c) == (192, 0, 0)
                || a == 198 && (18..20).contains(&b)
        }
        IpAddr::V6(v6) => {
            let embedded = embedded(v6).is_some_and(|v4| is_private(v4.into()));
            embedded || v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// Returns the IPv4 address in an IPv6 one: mapped, compatible (RFC 4291), or behind NAT64 (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let is_nat64 = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let last = || Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    address.to_ipv4().or_else(|| is_nat64.then(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(location: &str, request: &str) -> Result<String> {
        resolved(location, &request.parse().unwrap(), &PlainHosts::new(&["named.example:81".to_owned()]))
            .map(|url| url.to_string())
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        let request = "https://r.example/v2/a/blobs/uploads/";
        for (location, url) in [
            ("/v2/a/blobs/uploads/1?_state=x", "https://r.example/v2/a/blobs/uploads/1?_state=x"),
            ("https://r.example/v2/u/1", "https://r.example/v2/u/1"),
            // A proxy that ends TLS.
            ("http://r.example/v2/u/1", "https://r.example/v2/u/1"),
            ("http://r.example:5000/v2/u/1", "https://r.example/v2/u/1"),
            ("https://storage.example/bucket?sig=1", "https://storage.example/bucket?sig=1"),
        ] {
            assert_eq!(of(location, request).unwrap(), url, "{location}");
        }
        assert_eq!(of("/u/1", "http://127.0.0.1:5000/v2/").unwrap(), "http://127.0.0.1:5000/u/1");
    }

    #[test]
    fn loopback_addresses_and_localhost_are_this_machine() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:5000"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[fd00::1]:5000", "r.example:5000", "127.0.0.1.example"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn plain_hosts_are_named_with_their_port_or_with_any_port() {
        let hosts = PlainHosts::new(&["a.example:81", "B.example", "[fd00::1]"].map(str::to_owned));
        for host in ["a.example:81", "b.example", "b.example:5000", "[fd00::1]", "[fd00::1]:5000"] {
            assert!(hosts.names(host), "{host}");
        }
        for host in ["a.example", "a.example:82", "c.b.example", "[fd00::2]"] {
            assert!(!hosts.names(host), "{host}");
        }
    }

    #[test]
    fn errors_contain_no_signature() {
        let error =
            of("https://10.0.0.1/upload?sig=secret", "https://r.example/v2/").unwrap_err().to_string();
        assert!(error.contains("\"https://10.0.0.1\"") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn private_addresses_of_other_hosts_are_refused() {
        let request = "https://r.example/v2/a/blobs/uploads/";
        for location in [
            "https://127.0.0.1/x",
            "https://10.1.2.3/x",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/x",
            "https://[fd00::1]/x",
            "https://[::ffff:192.168.0.1]/x",
            "https://localhost/x",
            "https://localhost./x",
            "https://0.0.0.1/x",
            "https://100.64.0.1/x",
            "https://198.18.0.1/x",
            "https://[::127.0.0.1]/x",
            "https://[64:ff9b::10.0.0.1]/x",
        ] {
            let error = of(location, request).unwrap_err().to_string();
            assert!(error.contains("private address on another host"), "{location}: {error}");
        }
    }

    #[test]
    fn other_hosts_are_encrypted_unless_the_user_names_them() {
        let plain = "http://127.0.0.1:5000/v2/a/blobs/uploads/";
        for request in ["https://r.example/v2/a/blobs/uploads/", plain] {
            for location in ["http://storage.example/x", "http://named.example/x"] {
                let error = of(location, request).unwrap_err().to_string();
                assert!(error.contains("it is not encrypted"), "{location}: {error}");
            }
            let error = of("file:///etc/passwd", request).unwrap_err().to_string();
            assert!(error.contains("\"file:\", which is refused: it is not a URL of HTTP"), "{error}");
            assert!(
                of("http://[bad", request).unwrap_err().to_string().contains("a URL that cannot be read")
            );
        }
        assert_eq!(of("http://named.example:81/x", plain).unwrap(), "http://named.example:81/x");
        assert_eq!(of("http://localhost:9000/x", plain).unwrap(), "http://localhost:9000/x");
    }
}
