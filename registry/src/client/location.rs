//! Checks where a registry directs a client: for an upload, or to the bytes of a blob.

use std::net::IpAddr;

use reqwest::Url;

use crate::error::{Error, Result};

/// Returns the URL of the header `Location`, resolved against the URL of the request.
///
/// Refuses a private address on another host: a registry could direct the client's bytes to a service of the client's own network.
/// A TLS proxy in front of a registry may cause locations with `http` on the same host; these use `https`.
pub(super) fn resolved(location: &str, request: &Url) -> Result<Url> {
    let wrong = |why| Error::Location { location: without_secrets(location), host: host(request), why };
    let mut url = request.join(location).map_err(|_| wrong("it is not a URL"))?;
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
    if request.scheme() == "https" && url.scheme() != "https" {
        return Err(wrong("it is not encrypted"));
    }
    let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let named_local = url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost"));
    if named_local || address.is_some_and(is_private) {
        return Err(wrong("it is a private address on another host"));
    }
    Ok(url)
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
    Url::parse(location).map_or_else(|_| "a relative URL".into(), |url| url.origin().ascii_serialization())
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(v4.into()),
            None => {
                v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(location: &str, request: &str) -> Result<String> {
        resolved(location, &request.parse().unwrap()).map(|url| url.to_string())
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
        ] {
            let error = of(location, request).unwrap_err().to_string();
            assert!(error.contains("private address on another host"), "{location}: {error}");
        }
        assert!(of("http://storage.example/x", request).unwrap_err().to_string().contains("not encrypted"));
    }
}
