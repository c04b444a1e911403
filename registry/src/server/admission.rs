//! Whose requests are answered: this user's programs or everybody's, and no page of a browser.

use std::fmt;
use std::net::IpAddr;

use data_encoding::{BASE64, HEXLOWER};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode, Uri, Version};
use nixply_packer::digest::Digest;

use super::answer::Refusal;
use super::body::Body;
use super::peer::Peer;
use crate::error::{Error, Result};

/// The user's name in HTTP's basic authentication, where the secret is the password.
const USER: &str = "nixply";

/// Browsers say here which page a request comes from (W3C, Fetch Metadata Request Headers).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whose programs are answered.
#[derive(Debug, Clone)]
pub enum Readers {
    /// Every user's, and other machines' where they reach the address.
    Everyone,
    /// Those of this user and of root.
    UserAndRoot,
    /// Programs that know the secret, this user's own among them.
    User(Secret),
}

/// A password for one server. Handed to a program in a file that this user alone can read: all users read command lines.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// 256 random bits.
    pub fn new() -> Result<Self> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).map_err(|error| Error::Secret(error.into()))?;
        Ok(Self(HEXLOWER.encode(&bits)))
    }

    /// User and password as HTTP's basic authentication and the `auth` of containers' auth files have them.
    pub fn basic(&self) -> String {
        BASE64.encode(format!("{USER}:{}", self.0).as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Decides about requests.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) readers: Readers,
    /// Names by which clients may call this server, beside those of loopback; none where any name will do.
    pub(super) hosts: Option<Vec<String>>,
}

impl Admission {
    /// Whether a connection's requests are all answered. If not, each has to bring the secret. A connection of the user's own
    /// may come from a proxy that others reach, so the user's number is no reason to answer where programs have the secret.
    pub(super) fn trusts(&self, peer: Peer) -> bool {
        match self.readers {
            Readers::Everyone => true,
            Readers::UserAndRoot => matches!(peer, Peer::Own | Peer::Root),
            Readers::User(_) => false,
        }
    }

    /// Whether a connection gets a place among those of the programs that may read. Others have few places of their own.
    pub(super) fn makes_room(&self, peer: Peer) -> bool {
        self.trusts(peer) || peer == Peer::Own
    }

    /// Whether users are told apart.
    pub(super) fn asks_for_peers(&self) -> bool {
        !matches!(self.readers, Readers::Everyone)
    }

    /// Why a request is not answered, if it is not.
    pub(super) fn refuse<B>(&self, request: &Request<B>, trusted: bool) -> Option<Response<Body>> {
        if let Some(refusal) = self.hosts.as_ref().and_then(|hosts| foreign(request, hosts)) {
            return Some(refusal.answer());
        }
        if trusted || self.knows_secret(request.headers()) {
            return None;
        }
        let message = match self.readers {
            Readers::User(_) => "this registry answers programs that know its secret",
            _ => "this registry answers the programs of the user who has started it, and of root",
        };
        match self.readers {
            Readers::User(_) => {
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
                let mut response = refusal.answer();
                let scheme = HeaderValue::from_static("Basic realm=\"nixply\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                // Strangers do not hold a place by asking again and again.
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

    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let Readers::User(secret) = &self.readers else { return false };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
        given.is_some_and(|(scheme, given)| {
            // Hashes take the same time to compare, however much of a guess is right.
            let digest = |text: &str| Digest::of(text.as_bytes());
            scheme.eq_ignore_ascii_case("basic") && digest(given.trim()) == digest(&secret.basic())
        })
    }
}

/// Why a request may be a browser's, whose user has opened a page of somebody else: such a page can have its own name lead to
/// 127.0.0.1 (DNS rebinding).
fn foreign<B>(request: &Request<B>, hosts: &[String]) -> Option<Refusal> {
    let headers = request.headers();
    let from_a_page = headers.get(FETCH_SITE).is_some_and(|site| site != "none" && site != "same-origin");
    if headers.contains_key(ORIGIN) || from_a_page {
        return Some(denied("this registry answers no web pages: the request has an Origin"));
    }
    let named = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut names: Vec<&str> = named.chain(request.uri().authority().map(|name| name.as_str())).collect();
    names.dedup();
    // RFC 9112, 3.2.
    if headers.get_all(HOST).iter().count() != 1 && request.version() != Version::HTTP_10 {
        let message = "an HTTP/1.1 request has one Host";
        return Some(Refusal::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message));
    }
    names.into_iter().find(|name| !is_local(name, hosts)).map(|_| {
        denied(
            "this registry listens on loopback and answers to localhost, 127.0.0.1 and [::1]; start it with \
             --allow-host to have it answer to another name",
        )
    })
}

fn denied(message: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "DENIED", message)
}

/// Whether a Host is loopback's, or one of these.
fn is_local(host: &str, hosts: &[String]) -> bool {
    // What is no host and port could be read otherwise by somebody else.
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
    fn loopback_has_few_names() {
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

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_ne!(one.basic(), other.basic());
        assert_eq!(format!("{:?}", Readers::User(one)), "User(Secret)");
    }
}
