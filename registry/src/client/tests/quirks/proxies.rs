//! Registries behind proxies and content delivery networks, and with their storage on another host.

use std::sync::Arc;
use std::time::Duration;

use super::super::fake::{AUTHORITY, Act, Fake, Instead, Profile};
use super::super::images::{
    BASIC, Images, anonymous, assert_has, assert_no_image, at, but, client_with, kinds, limits, plain_push,
    user,
};
use crate::client::limits::Limits;
use crate::client::{Client, FindTls, Options, Tls};
use crate::error::{Error, Result};

/// distribution#123: the state of a session is in the query of its place. The fake registry checks it after every request.
#[test]
fn the_digest_is_added_to_the_query_of_the_place() {
    let (images, fake) = (Images::new(), Fake::start());
    let spec = images.large();
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let puts: Vec<_> =
        fake.lines().into_iter().filter(|line| line.starts_with("PUT /v2/app/blobs/")).collect();
    assert_eq!(puts.len(), 2);
    assert!(puts.iter().all(|line| line.contains("?_state=a%20b%2B0&digest=sha256%3A")), "{puts:?}");
    assert_has(&fake, "app:t", &spec);
}

/// The certificates of a registry with a private authority.
struct Private;

impl FindTls for Private {
    fn find(&self, _host: &str) -> Result<Option<Tls>> {
        Ok(Some(Tls { authorities: vec![AUTHORITY.to_vec()], identity: None }))
    }
}

fn private_client() -> Client {
    let (credentials, tls, plain_http) = (Arc::new(()), Arc::new(Private), Vec::new());
    Client::with_limits(Options { credentials, tls, plain_http, user_agent: "nixply/test".into() }, limits())
}

/// distribution#479: a registry behind a TLS proxy names places with `http`, and with its own port or none.
#[test]
fn places_of_a_registry_behind_a_tls_proxy_are_encrypted() {
    let images = Images::new();
    let spec = images.large();
    for origin in ["http://127.0.0.1", "http://127.0.0.1:5000"] {
        let fake = Fake::encrypted(Profile { origin, ..Profile::default() });
        images.push(&private_client(), &fake, &spec, &["app:t"]).unwrap();
        assert_eq!(kinds(&fake.requests()), plain_push());
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn a_place_that_leaves_encryption_is_refused() {
    let images = Images::new();
    let fake = Fake::encrypted(Profile { origin: "http://storage.example", ..Profile::default() });
    let error = images.push(&private_client(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(error.ends_with("which is refused: it is not encrypted"), "{error}");
    assert_no_image(&fake, "app");
}

#[test]
fn blobs_in_storage_on_another_host_are_sent_and_read_without_credentials() {
    let images = Images::new();
    let spec = images.large();
    let config = spec.config_blob();
    let body = String::from_utf8(config).unwrap();
    let storage = Fake::with(move |got, _| {
        let is_read = got.line.starts_with("GET");
        let body = if is_read { body.clone() } else { String::new() };
        Some(Instead { body, ..Instead::new(if is_read { 200 } else { 201 }) })
    });
    let place = format!("http://{}/upload?X-Amz-Signature=abc", storage.address);
    let fake = Fake::with(move |got, _| {
        if got.authorization.as_deref() != Some(BASIC) {
            return Some(Instead::new(401).with("WWW-Authenticate", "Basic realm=\"r\""));
        }
        match got.line.as_str() {
            _ if got.is("POST", "uploads/") => Some(Instead::new(202).with("Location", place.clone())),
            _ if got.is("GET", "/blobs/") => Some(Instead::new(307).with("Location", place.clone())),
            _ if got.is_manifest_put() => Some(Instead::new(201)),
            _ => None,
        }
    });
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    let manifest = nixply_documents::go_json::compact(&spec.manifest());
    fake.change(|registry| {
        let stored = registry.repository("app");
        let digest = nixply_oci::Digest::of(&manifest);
        stored.manifests.insert(digest, manifest.into());
        stored.tags.insert("t".into(), digest);
    });
    assert_eq!(user().learn(&at(&fake, "app:t").unwrap()).unwrap().layers.len(), 2);
    let requests = storage.requests();
    assert_eq!(kinds(&requests), [("PUT blob", 3), ("GET blob", 1)].into());
    assert!(requests.iter().all(|got| got.authorization.is_none()));
    assert!(
        requests[..3]
            .iter()
            .all(|got| got.line.starts_with("PUT /upload?X-Amz-Signature=abc&digest=sha256%3A"))
    );
}

/// An attack on the client's network: the storage demands a password for another token service.
#[test]
fn another_host_cannot_ask_for_credentials() {
    let images = Images::new();
    let thief = Fake::with(|_, _| Some(Instead { body: r#"{"token":"T"}"#.into(), ..Instead::new(200) }));
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"r\"", thief.address);
    let storage = Fake::with(move |_, _| Some(Instead::new(401).with("WWW-Authenticate", challenge.clone())));
    let place = format!("http://{}/upload", storage.address);
    let fake = Fake::with(move |got, _| {
        got.is("POST", "uploads/").then(|| Instead::new(202).with("Location", place.clone()))
    });
    let error = images.push(&user(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(error.contains("401 Unauthorized"), "{error}");
    assert!(thief.requests().is_empty());
    assert_no_image(&fake, "app");
}

#[test]
fn private_addresses_of_other_hosts_get_no_request() {
    let images = Images::new();
    for place in ["http://10.0.0.1/x", "http://[fd00::1]/x", "http://169.254.169.254/latest/meta-data"] {
        let fake = Fake::with(move |got, _| {
            got.is("POST", "uploads/").then(|| Instead::new(202).with("Location", place))
        });
        let error = images.push(&user(), &fake, &images.large(), &["app:t"]).unwrap_err();
        assert!(matches!(error, Error::Location { .. }), "{error}");
        assert!(error.to_string().ends_with("it is a private address on another host"), "{error}");
        assert_no_image(&fake, "app");
    }
}

/// mise#11141: Cloudflare refuses bodies of more than 100 MB.
#[test]
fn bodies_above_the_limit_of_a_proxy_are_sent_in_chunks() {
    let images = Images::new();
    let spec = images.large();
    // The second limit is smaller than the client's chunks.
    for (limit, patches) in [(20_000, 2 + 2 * 5), (6_000, 2 + 2 * (2 + 20))] {
        let fake = Fake::of(Profile { body_limit: Some(limit), ..Profile::default() });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        let requests = fake.requests();
        let kinds = kinds(&requests);
        assert!(kinds["PATCH"].abs_diff(patches) <= 4, "{kinds:?}");
        assert!(
            requests
                .iter()
                .filter(|got| got.header("content-range").is_some())
                .all(|got| got.size <= 16 << 10)
        );
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn a_limit_that_no_chunk_meets_is_an_error() {
    let images = Images::new();
    let fake = Fake::with(|got, _| (got.is("PATCH", "") || got.is_blob_put()).then(|| Instead::new(413)));
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(error.ends_with("413 Payload Too Large"), "{error}");
    assert!(fake.requests().len() < 50);
    assert_no_image(&fake, "app");
}

/// A proxy that buffers a body forwards it later: there is progress, then a long silence, then the answer.
#[test]
fn only_a_time_without_progress_ends_a_request() {
    let images = Images::new();
    let spec = images.large();
    let limits = Limits { stall_timeout: Duration::from_millis(300), ..limits() };
    let fake = Fake::new(Profile::default(), |got, nth| match got.is_blob_put() && nth == 1 {
        true if got.line.contains("/1?") => Act::Stall(Duration::from_secs(30)),
        true => Act::Stall(Duration::from_millis(30)),
        false => Act::Own,
    });
    images.push(&client_with(Arc::new(()), limits), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("POST", 3), ("PUT blob", 3)]));
    assert_has(&fake, "app:t", &spec);
}
