//! Quirks of many registries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nixply_oci::Digest;

use super::super::fake::{Fake, Instead, Mount, Profile};
use super::super::images::{
    BASIC, Content, Images, anonymous, assert_has, assert_has_content, assert_no_image, at, but, client_with,
    digest, kinds, limits, manifest, plain_push, user,
};
use crate::client::limits::Limits;
use crate::client::{Client, FindTls, Options, Tls};
use crate::error::Result;

/// go-containerregistry#1404, #1679.
#[test]
fn a_mount_that_fails_is_repeated_as_an_upload() {
    let images = Images::new();
    let spec = images.large();
    for status in [400, 403, 404, 405, 500] {
        let fake = Fake::of(Profile { mount: Mount::Fails(status), ..Profile::default() });
        let pushed = images.push(&anonymous(), &fake, &spec, &["one:t", "two:t"]).unwrap();
        assert_eq!((pushed[1].mounted.len(), pushed[1].sent.len()), (0, 3));
        let requests: Vec<_> =
            fake.requests().into_iter().filter(|got| got.line.contains("/v2/two/")).collect();
        let tries = if status == 500 { 9 } else { 3 };
        let expected = but(plain_push(), &[("HEAD blob", 0), ("POST mount", tries)]);
        assert_eq!(kinds(&requests), expected, "{status}");
        assert_has(&fake, "two:t", &spec);
    }
}

#[test]
fn a_blob_is_stored_with_any_status_of_success() {
    let images = Images::new();
    let spec = images.large();
    for stored in [200, 201, 202, 204] {
        let fake = Fake::of(Profile { stored, single_post: stored == 201, ..Profile::default() });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        let requests = fake.requests();
        assert_eq!(
            requests.iter().filter(|got| got.is_blob_put()).count(),
            if stored == 201 { 2 } else { 3 }
        );
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn empty_bodies_have_a_length() {
    let images = Images::new();
    let spec = images.large();
    // The fake registry answers 411 without a length.
    let fake = Fake::of(Profile { body_limit: Some(20_000), ..Profile::default() });
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    let written = requests.iter().filter(|got| !got.is("GET", "") && !got.is("HEAD", ""));
    assert!(
        written.clone().any(|got| got.is("POST", "uploads/") && got.header("content-length") == Some("0"))
    );
    assert!(written.clone().any(|got| got.is_blob_put() && got.header("content-length") == Some("0")));
    assert!(written.clone().all(|got| got.header("content-length").is_some()));
    assert!(written.clone().all(|got| got.header("transfer-encoding").is_none()));
}

#[test]
fn chunks_have_the_minimum_size_that_the_registry_names() {
    let images = Images::new();
    let spec = images.spec(&["a"], "chunks");
    let profile = Profile { body_limit: Some(50_000), least_chunk: Some(30_000), ..Profile::default() };
    let fake = Fake::of(profile);
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    let chunks: Vec<_> = requests.iter().filter_map(|got| got.header("content-range")).collect();
    assert_eq!(chunks[..2], ["0-29999", "30000-59999"], "{chunks:?}");
    assert_has(&fake, "app:t", &spec);
}

/// build-push-action#1194: each request may be one too many, not only those of blobs.
#[test]
fn every_request_may_be_throttled() {
    let images = Images::new();
    let spec = images.large();
    for after in [None, Some("0"), Some("1"), Some("Wed, 21 Oct 2015 07:28:00 GMT"), Some("soon")] {
        let fake = Fake::with(move |got, nth| {
            let answer = Instead::new(429);
            // Each try of a body has a new session.
            let is_first = nth == 1 && (!got.is_blob_put() || got.line.contains("/1?"));
            is_first.then(|| match after {
                Some(after) => answer.with("Retry-After", after),
                None => answer,
            })
        });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        let kinds = kinds(&fake.requests());
        assert_eq!((kinds["GET manifest"], kinds["HEAD blob"], kinds["PUT manifest"]), (2, 6, 2));
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn a_registry_that_is_always_overloaded_is_an_error_after_a_bounded_number_of_requests() {
    let images = Images::new();
    let fake = Fake::with(|got, _| got.is_manifest_put().then(|| Instead::new(429)));
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(error.ends_with("429 Too Many Requests"), "{error}");
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("PUT manifest", 8)]));
    assert_no_image(&fake, "app");
}

/// containers/image#2906: Docker's manifests cannot have zstd layers.
#[test]
fn manifests_are_those_of_the_oci() {
    let (images, fake) = (Images::new(), Fake::start());
    images.push(&client_with(Arc::new(()), Limits::default()), &fake, &images.large(), &["app:t"]).unwrap();
    let put = fake.requests().pop().unwrap();
    assert_eq!(put.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
    let (value, _) = manifest(&fake, "app:t");
    assert!(!value.to_string().contains("vnd.docker"), "{value}");
}

/// `Retry-After: 0`, or a time that is past for this machine's clock, must not use up all tries at once.
#[test]
fn a_requested_delay_of_nothing_does_not_shorten_the_own_delay() {
    let images = Images::new();
    for after in ["0", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        let overloaded = std::sync::OnceLock::new();
        let fake = Fake::with(move |_, _| {
            let start: &Instant = overloaded.get_or_init(Instant::now);
            let is_over = start.elapsed() > Duration::from_millis(300);
            (!is_over).then(|| Instead::new(429).with("Retry-After", after))
        });
        let limits =
            Limits { first_delay: Duration::from_millis(20), max_delay: Duration::from_secs(1), ..limits() };
        let client = client_with(Arc::new(()), limits);
        images.push(&client, &fake, &images.large(), &["app:t"]).unwrap();
    }
}

/// Returns the error of reading a tag's manifest.
fn unreadable(fake: &Fake) -> String {
    let reference = at(fake, "app:t").unwrap();
    let reader = anonymous().reader(&reference.repository).unwrap();
    reader.document(&reference.version).unwrap_err().chain()
}

/// registry.k8s.io answers requests for manifests with a redirect to the registry that has them.
#[test]
fn redirects_of_manifests_are_followed_without_credentials() {
    let images = Images::new();
    let spec = images.large();
    // The names differ, and so do the hosts for the client.
    let upstream = Fake::start();
    images.push(&anonymous(), &upstream, &spec, &["team/app:t"]).unwrap();
    upstream.requests();
    let place = upstream.address;
    let fake = Fake::with(move |got, _| {
        if got.authorization.as_deref() != Some(BASIC) {
            return Some(Instead::new(401).with("WWW-Authenticate", "Basic realm=\"r\""));
        }
        let path = got.line.split_once(' ').unwrap().1.replace("/v2/mirror/", "/v2/team/");
        Some(Instead::new(307).with("Location", format!("http://{place}{path}")))
    });
    let reference = at(&fake, "mirror/app:t").unwrap();
    let reader = user().reader(&reference.repository).unwrap();
    let image = reader.image(&reference.version, &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!((image.digest(), fake.requests().len()), (digest(&spec), 3));
    let requests = upstream.requests();
    assert!(requests.len() == 2 && requests.iter().all(|got| got.authorization.is_none()), "{requests:?}");

    let endless = Fake::with(|got, _| {
        let path = got.line.split_once(' ').unwrap().1.to_owned();
        Some(Instead::new(302).with("Location", path))
    });
    let error = unreadable(&endless);
    assert!(error.ends_with("more than 5 redirects"), "{error}");
    assert_eq!(endless.requests().len(), 6);
}

#[test]
fn a_manifest_that_is_too_large_is_read_once() {
    let body = "x".repeat((4 << 20) + 1);
    let fake = Fake::with(move |_, _| Some(Instead { body: body.clone(), ..Instead::new(200) }));
    let error = unreadable(&fake);
    assert!(error.ends_with("the answer has more than 4194304 bytes"), "{error}");
    assert_eq!(fake.requests().len(), 1);
}

/// Registries delete manifests without tags, and an index may name them.
#[test]
fn the_manifests_of_an_index_are_written_again_if_the_registry_has_lost_them() {
    let images = Images::new();
    let index = Content::of_index(&[images.large(), images.spec(&["c"], "small")]);
    let fake = Fake::start();
    let first = images.push_content(&anonymous(), &fake, &index, &["app:t"]).unwrap();
    assert_eq!((first[0].digest, first[0].sent.len()), (index.digest, index.blobs));
    let lines = fake.lines();
    // The index is the last one.
    assert_eq!(lines.iter().filter(|line| line.starts_with("PUT /v2/app/manifests/sha256:")).count(), 2);
    assert_eq!(lines.last().unwrap(), "PUT /v2/app/manifests/t");
    assert_has_content(&fake, "app:t", &index);

    fake.change(|registry| registry.repository("app").manifests.retain(|digest, _| *digest == index.digest));
    let again = images.push_content(&anonymous(), &fake, &index, &["app:t", "app:u"]).unwrap();
    assert_eq!((again[0].sent.len(), again[0].there.len()), (0, index.blobs));
    assert_has_content(&fake, "app:u", &index);
    assert_eq!(kinds(&fake.requests()), [("GET manifest", 2), ("PUT manifest", 3)].into());
}

/// A registry checks the blobs of a manifest when it receives it, but not those of an index's manifests when it receives the index.
#[test]
fn a_blob_that_the_registry_has_lost_is_sent_again_for_another_tag_of_an_index() {
    let images = Images::new();
    let large = images.large();
    let index = Content::of_index(&[large.clone(), images.spec(&["c"], "small")]);
    let fake = Fake::start();
    images.push_content(&anonymous(), &fake, &index, &["app:t"]).unwrap();
    let lost = Digest::of(&large.config_blob());
    for to in [&["app:u"][..], &["app:t", "app:v"]] {
        fake.change(|registry| registry.repository("app").blobs.remove(&lost)).unwrap();
        let again = images.push_content(&anonymous(), &fake, &index, to).unwrap();
        assert_eq!(again[0].sent.keys().collect::<Vec<_>>(), [&lost], "{to:?}");
        assert_has_content(&fake, to.last().unwrap(), &index);
    }
}

/// Certificates are configured for the host, so it speaks TLS unless the user names it.
#[test]
fn hosts_that_the_user_names_get_plain_http() {
    struct Certificates;
    impl FindTls for Certificates {
        fn find(&self, _host: &str) -> Result<Option<Tls>> {
            Ok(Some(Tls::default()))
        }
    }
    let (images, fake) = (Images::new(), Fake::start());
    let push = |named: &str| {
        let plain_http = vec![named.to_owned()];
        let (credentials, tls) = (Arc::new(()), Arc::new(Certificates));
        let client =
            Client::with_limits(Options { credentials, tls, plain_http, user_agent: "t".into() }, limits());
        images.push(&client, &fake, &images.large(), &["app:t"])
    };
    assert!(push("other.example").is_err() && push("127.0.0.1:1").is_err());
    assert!(fake.requests().is_empty());
    for named in ["127.0.0.1".to_owned(), fake.address.to_string()] {
        push(&named).unwrap();
    }
}
