//! Tests of the client, against a registry in this process.

mod fake;
mod faults;
mod images;
mod learning;
mod model;
mod other_registry;
mod pull;
mod quirks;
mod secrets;
mod tokens;

use std::sync::Arc;

use nixply_packer::ImageSpec;

use self::fake::{Fake, Instead};
use super::{Client, Credentials, FindCredentials, Options, Push, Pushed};
use crate::content::{Compression, Image};
use crate::error::{Error, Result};
use crate::server::tests::fixture::Fixture;

/// A user whose password must not appear anywhere but in the header `Authorization`.
struct User;

const PASSWORD: &str = "pass:word";

impl FindCredentials for User {
    fn find(&self, _host: &str, _repository: &str) -> Result<Option<Credentials>> {
        Ok(Some(Credentials::Basic { user: "user".into(), password: PASSWORD.into() }))
    }
}

fn push_as(
    fixture: &Fixture,
    spec: &ImageSpec,
    fake: &Fake,
    tag: &str,
    credentials: Arc<dyn FindCredentials>,
) -> Result<Pushed> {
    let to = vec![format!("{}/team/app:{tag}", fake.address).parse().unwrap()];
    let mut content = fixture.options("auto").content;
    content.compression = Compression::Recorded("gzip".parse().unwrap());
    let image = Image::new("team/app", tag, spec.clone()).unwrap();
    let mut all = Vec::new();
    client(credentials)
        .push(Push { image, to, content, cache_to: None, dry_run: false }, &mut |pushed| all.push(pushed))?;
    Ok(all.remove(0))
}

fn client(credentials: Arc<dyn FindCredentials>) -> Client {
    let (tls, plain_http) = (Arc::new(()), Vec::new());
    Client::new(Options { credentials, tls, plain_http, user_agent: "nixply/test".into() })
}

/// Numbers of blobs that were sent, mounted, and in the repository.
fn fates(pushed: &Pushed) -> (usize, usize, usize) {
    (pushed.sent.len(), pushed.mounted.len(), pushed.there.len())
}

fn push(fixture: &Fixture, spec: &ImageSpec, fake: &Fake, tag: &str) -> Result<Pushed> {
    push_as(fixture, spec, fake, tag, Arc::new(()))
}

#[test]
fn only_missing_blobs_are_sent_and_an_unchanged_tag_costs_one_request() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("zstd:1");
    let first = push(&fixture, &spec, &fake, "t").unwrap();
    let sizes: u64 = spec.layers.iter().map(|layer| layer.size).sum();
    assert_eq!((first.is_unchanged(), fates(&first)), (false, (3, 0, 0)));
    assert!(first.bytes > sizes && first.bytes < sizes + 2000, "{first:?} {sizes}");
    let lines = fake.lines();
    assert_eq!(lines.len() as u64, first.requests);
    assert_eq!(lines[0], "GET /v2/team/app/manifests/t");
    assert_eq!(lines.last().unwrap(), "PUT /v2/team/app/manifests/t");
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 3, "{lines:?}");

    let again = push(&fixture, &spec, &fake, "t").unwrap();
    assert_eq!((again.digest, again.is_unchanged(), again.bytes, again.requests), (first.digest, true, 0, 1));
    assert_eq!(fake.lines(), ["GET /v2/team/app/manifests/t"]);

    // A new config: the layers are in the former manifest, so only the config is sent.
    let mut changed = spec.clone();
    changed.config.env = vec!["A=b".into()];
    let third = push(&fixture, &changed, &fake, "t").unwrap();
    assert_eq!(fates(&third), (1, 0, 2));
    let lines = fake.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("POST /v2/team/app/blobs/uploads/?digest=sha256"), "{lines:?}");

    // Another tag has no former manifest, so all blobs are looked up.
    let other = push(&fixture, &spec, &fake, "other").unwrap();
    assert_eq!((fates(&other), other.requests), ((0, 0, 3), 5));
    let stored = fake.change(|registry| registry.repository("team/app").clone());
    assert_eq!((stored.manifests.len(), stored.tags.len()), (2, 2));
}

#[test]
fn a_blob_that_the_registry_has_lost_is_sent_again() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("zstd:1");
    push(&fixture, &spec, &fake, "t").unwrap();
    fake.change(|registry| registry.repository("team/app").blobs.remove(&spec.layers[0].digest));
    let mut changed = spec.clone();
    changed.config.env = vec!["A=b".into()];
    let pushed = push(&fixture, &changed, &fake, "t").unwrap();
    assert_eq!(fates(&pushed), (2, 0, 1));
    assert!(fake.change(|registry| registry.repository("team/app").image("t")).is_some());
}

#[test]
fn passing_errors_are_retried_and_lasting_ones_are_reported() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd:1");
    let fake = Fake::with(|got, nth| {
        // The first two sessions fail: each try of an upload has a new one.
        let is_first_blob = got.is_blob_put() && (got.line.contains("/1?") || got.line.contains("/2?"));
        let is_first = is_first_blob || nth == 1 && got.is_manifest_put();
        let status = if got.line.contains("/blobs/") { 503 } else { 429 };
        is_first.then(|| Instead::new(status).with("Retry-After", "0"))
    });
    let pushed = push(&fixture, &spec, &fake, "t").unwrap();
    assert_eq!(pushed.sent.len(), 3);
    assert_eq!(fake.change(|registry| registry.repository("team/app").blobs.len()), 3);
    // Each failed upload began again, in a new session.
    let lines = fake.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 5, "{lines:#?}");

    let fake = Fake::with(|got, _| {
        let body = r#"{"errors":[{"code":"DENIED","message":"no space"}]}"#.to_owned();
        got.line.starts_with("POST").then(|| Instead { body, ..Instead::new(403) })
    });
    let error = push(&fixture, &spec, &fake, "t").unwrap_err().chain();
    let host = fake.address;
    assert!(error.starts_with("cannot upload the blob sha256:"), "{error}");
    assert!(error.ends_with(&format!("{host} answered 403 Forbidden, DENIED: no space")), "{error}");
    assert!(fake.change(|registry| registry.repository("team/app").manifests.is_empty()));
}

#[test]
fn tokens_and_passwords_go_only_to_the_registry_that_asks_for_them() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd:1");
    let basic = "Basic dXNlcjpwYXNzOndvcmQ=";
    // Basic authentication.
    let fake = Fake::with(move |got, _| {
        (got.authorization.as_deref() != Some(basic))
            .then(|| Instead::new(401).with("WWW-Authenticate", "Basic realm=\"r\""))
    });
    push_as(&fixture, &spec, &fake, "t", Arc::new(User)).unwrap();
    let error = push(&fixture, &spec, &fake, "t").unwrap_err().to_string();
    assert!(error.contains("it requires credentials, and there are none for it"), "{error}");

    // Token authentication, with another server as the token service.
    let service = Fake::with(move |got, _| {
        let right = got.line == "GET /token?scope=repository%3Ateam%2Fapp%3Apull%2Cpush&service=r"
            && got.authorization.as_deref() == Some(basic);
        Some(match right {
            true => Instead { body: r#"{"token":"T"}"#.into(), ..Instead::new(200) },
            false => Instead::new(401),
        })
    });
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"r\"", service.address);
    let fake = Fake::with(move |got, _| {
        (got.authorization.as_deref() != Some("Bearer T"))
            .then(|| Instead::new(401).with("WWW-Authenticate", realm.clone()))
    });
    let pushed = push_as(&fixture, &spec, &fake, "t", Arc::new(User)).unwrap();
    assert_eq!(pushed.sent.len(), 3);
    let error = push(&fixture, &spec, &fake, "t").unwrap_err().to_string();
    assert!(error.contains("refuses access to the repository team/app"), "{error}");
    assert!(!error.contains(PASSWORD) && !error.contains("dXNlcj"), "{error}");
    let seen = fake.requests();
    assert!(seen.iter().all(|got| got.authorization.as_deref().is_none_or(|text| text == "Bearer T")));
}

#[test]
fn uploads_to_another_origin_carry_no_credentials() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd:1");
    let storage = Fake::with(|_, _| Some(Instead::new(201)));
    let place = format!("http://{}/upload?sig=1", storage.address);
    let fake = Fake::with(move |got, _| match &got.authorization {
        None => Some(Instead::new(401).with("WWW-Authenticate", "Basic realm=\"r\"")),
        Some(_) if got.line.starts_with("POST") => Some(Instead::new(202).with("Location", place.clone())),
        Some(_) if got.line.starts_with("PUT") => Some(Instead::new(201)),
        Some(_) => None,
    });
    assert_eq!(push_as(&fixture, &spec, &fake, "t", Arc::new(User)).unwrap().sent.len(), 3);
    let got = storage.requests();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|got| got.authorization.is_none() && got.size > 0), "{got:?}");
}

#[test]
fn uploads_to_private_addresses_of_other_hosts_are_refused() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd:1");
    let fake = Fake::with(|got, _| {
        let place = "http://10.0.0.1/x".to_owned();
        got.line.starts_with("POST").then(|| Instead::new(202).with("Location", place))
    });
    let error = push(&fixture, &spec, &fake, "t").unwrap_err();
    assert!(matches!(error, Error::Location { .. }), "{error}");
    assert!(error.to_string().ends_with("it is a private address on another host"), "{error}");
}
