//! Google's registries.

use super::super::fake::{Auth, Fake, Instead, Patch, Profile, TokenService};
use super::super::images::{Images, anonymous, as_user, assert_has, at, but, kinds, plain_push};

fn gcr() -> Profile {
    Profile { patch: Patch::Refused, ..Profile::default() }
}

/// rust-oci-client#177: there are no chunked uploads.
#[test]
fn layers_are_sent_whole_with_a_token_for_the_access_token() {
    // `oauth2accesstoken:ya29`
    let service = TokenService::start(Some("Basic b2F1dGgyYWNjZXNzdG9rZW46eWEyOQ=="));
    let fake = Fake::of(Profile { auth: Auth::Bearer(service.clone()), ..gcr() });
    let images = Images::new();
    let spec = images.large();
    images.push(&as_user("oauth2accesstoken", "ya29"), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    assert_eq!(kinds(&requests), but(plain_push(), &[("GET manifest", 2)]));
    assert!(requests[1..].iter().all(|got| got.authorization.as_deref() == Some("Bearer opaque-1")));
    assert_has(&fake, "app:t", &spec);
}

/// trivy's `artifact.go`: blobs that exist are unknown now and then.
#[test]
fn reads_of_blobs_that_a_manifest_names_are_repeated() {
    let images = Images::new();
    let spec = images.large();
    let fake = Fake::of_with(gcr(), |got, nth| {
        let is_unknown = got.is("GET", "/blobs/") && nth <= 2;
        is_unknown.then(|| Instead::error(404, "BLOB_UNKNOWN", "blob unknown to registry"))
    });
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    fake.requests();
    let learned = anonymous().learn(&at(&fake, "app:t").unwrap()).unwrap();
    assert_eq!(learned.layers.len(), 2);
    assert_eq!(kinds(&fake.requests()), [("GET manifest", 1), ("GET blob", 3)].into());
}

#[test]
fn a_blob_that_is_lost_for_readers_is_an_error() {
    let images = Images::new();
    let spec = images.large();
    let fake = Fake::of_with(gcr(), |got, _| {
        got.is("GET", "/blobs/").then(|| Instead::error(404, "BLOB_UNKNOWN", "blob unknown to registry"))
    });
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let error = anonymous().learn(&at(&fake, "app:t").unwrap()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("404 Not Found, BLOB_UNKNOWN"), "{error}");
}
