//! Decides which requests the server answers: those of its user's programs or of everyone, but never those of
//! web pages.

use std::net::IpAddr;

use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode, Uri, Version};
use nixply_documents::wording;
use nixply_oci::Digest;

use super::peer::Peer;
use super::readers::Readers;
use super::refusal::Refusal;
use crate::content::body::Body;

/// Header in which browsers state the relation of the requesting page to the server (W3C, Fetch Metadata Request Headers).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Rules for requests.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) readers: Readers,
    /// Host names that clients may use in addition to those of loopback. None accepts every host name.
    pub(super) hosts: Option<Vec<String>>,
    /// The end of the message to a client that uses another host name; may be empty.
    pub(super) other_host_advice: String,
}

impl Admission {
    /// Returns whether all requests of a connection are answered. Otherwise each request must carry the
    /// secret. A proxy that other users reach may run as this user, so the connection's user is not enough in
    /// a server with a secret.
    pub(super) fn trusts(&self, peer: Peer) -> bool {
        match self.readers {
            Readers::Everyone => true,
            Readers::UserAndRoot => matches!(peer, Peer::Own | Peer::Root),
            Readers::User(_) => false,
        }
    }

    /// Returns whether a connection counts against the limit for trusted programs. The limit for others is
    /// low.
    pub(super) fn makes_room(&self, peer: Peer) -> bool {
        self.trusts(peer) || peer == Peer::Own
    }

    /// Returns whether the server must look up the users of connections.
    pub(super) fn asks_for_peers(&self) -> bool {
        !matches!(self.readers, Readers::Everyone)
    }

    /// Returns the refusal of a request, or none if the server answers it.
    pub(super) fn refuse<B>(&self, request: &Request<B>, trusted: bool) -> Option<Response<Body>> {
        if let Some(refusal) = self.hosts.as_ref().and_then(|hosts| self.foreign(request, hosts)) {
            return Some(refusal.answer());
        }
        if trusted || self.knows_secret(request.headers()) {
            return None;
        }
        let message = match self.readers {
            Readers::User(_) => "this registry requires its secret",
            _ => "this registry answers only programs of the user who started it, and of root",
        };
        match self.readers {
            Readers::User(_) => {
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
                let mut response = refusal.answer();
                let scheme = HeaderValue::from_static("Basic realm=\"nixply\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                // An untrusted client must not keep its connection by repeating the request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                Some(response)
            }
            _ => {
                let mut response = denied(message).answer();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                Some(response)
            }
        }
    }

    /// Refuses requests that may come from a web page in the user's browser. Such a page can point its own
    /// host name at 127.0.0.1 (DNS rebinding).
    fn foreign<B>(&self, request: &Request<B>, hosts: &[String]) -> Option<Refusal> {
        let headers = request.headers();
        let from_a_page = headers.get(FETCH_SITE).is_some_and(|site| site != "none" && site != "same-origin");
        if headers.contains_key(ORIGIN) || from_a_page {
            return Some(denied("this registry does not answer web pages: the request has an Origin header"));
        }
        let named = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let mut names: Vec<&str> = named.chain(request.uri().authority().map(|name| name.as_str())).collect();
        names.dedup();
        // RFC 9112, 3.2, requires one Host header, except in HTTP/1.0.
        if headers.get_all(HOST).iter().count() != 1 && request.version() != Version::HTTP_10 {
            let message = "an HTTP/1.1 request must have exactly one Host header";
            return Some(Refusal::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message));
        }
        let other = names.into_iter().find(|name| !is_local(name, hosts))?;
        let more: String = hosts.iter().map(|host| format!(", {host}")).collect();
        let message = format!(
            "this registry listens on loopback and accepts the hosts localhost, 127.0.0.1, [::1]{more}, not {}",
            wording::quoted(other)
        );
        Some(denied(match &*self.other_host_advice {
            "" => message,
            advice => format!("{message}; {advice}"),
        }))
    }

    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let Readers::User(secret) = &self.readers else { return false };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
        given.is_some_and(|(scheme, given)| {
            // Comparing hashes takes the same time for every guess.
            let digest = |text: &str| Digest::of(text.as_bytes());
            scheme.eq_ignore_ascii_case("basic") && digest(given.trim()) == digest(&secret.basic())
        })
    }
}

fn denied(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "DENIED", message)
}

/// Returns whether a Host header names loopback or one of `hosts`.
fn is_local(host: &str, hosts: &[String]) -> bool {
    // Other software may parse a malformed host differently.
    let Ok(uri) = host.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority().filter(|name| name.as_str() == host && !host.contains('@')) else {
        return false;
    };
    let name = authority.host();
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let known = |known: &String| known.eq_ignore_ascii_case(name);
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback()) || hosts.iter().any(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_allowed_hosts_are_local() {
        let hosts = ["host.docker.internal".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:5000",
            "host.docker.internal:5000",
        ] {
            assert!(is_local(host, &hosts), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a.localhost",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::1",
            "::1",
            "2130706433",
            "0x7f.1",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost:80:90",
            "localhost, evil.example",
            "localhost/x",
            "h",
        ] {
            assert!(!is_local(host, &hosts), "{host}");
        }
    }
}
