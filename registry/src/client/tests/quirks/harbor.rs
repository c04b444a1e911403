//! Harbor.

use super::super::fake::{Act, Auth, Fake, Instead, Profile, TokenService};
use super::super::images::{
    BASIC, Images, anonymous, assert_has, assert_no_image, but, kinds, plain_push, user,
};

/// harbor#22417, #17504: with several replicas, one upload in ten is unknown or invalid.
#[test]
fn uploads_that_another_replica_does_not_know_begin_again() {
    let images = Images::new();
    let spec = images.large();
    for (status, code) in [(404, "BLOB_UPLOAD_UNKNOWN"), (400, "BLOB_UPLOAD_INVALID")] {
        let fake = Fake::with(move |got, _| {
            let is_lost = got.is_blob_put() && (got.line.contains("/1?") || got.line.contains("/3?"));
            is_lost.then(|| Instead::error(status, code, "blob upload"))
        });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("POST", 4), ("PUT blob", 4)]));
        assert_has(&fake, "app:t", &spec);
    }
}

/// harbor#18461, #15234: a replica does not see the new blobs when the manifest arrives.
#[test]
fn manifests_are_written_again_after_all_blobs_were_looked_up() {
    let images = Images::new();
    let spec = images.large();
    let fake = Fake::new(Profile::default(), |got, _| match got.is_blob_put() {
        true => Act::Hide(1),
        false => Act::Own,
    });
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let kinds = kinds(&fake.requests());
    assert!(kinds["PUT manifest"] >= 2 && kinds["PUT manifest"] <= 4, "{kinds:?}");
    assert!(kinds["HEAD blob"] >= 6, "{kinds:?}");
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn a_registry_that_never_sees_its_blobs_is_an_error() {
    let images = Images::new();
    let fake = Fake::with(|got, _| {
        got.is_manifest_put().then(|| Instead::error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown"))
    });
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(
        error.ends_with("app:t: the registry reports missing blobs, although it has all of them"),
        "{error}"
    );
    assert_eq!(kinds(&fake.requests())["PUT manifest"], 4);
    assert_no_image(&fake, "app");
}

/// devtron#3432: status 401 now and then, also with a token that is still valid.
#[test]
fn every_request_may_fail_once_with_401() {
    let service = TokenService::start(Some(BASIC));
    let challenge = service.challenge();
    let profile = Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() };
    let fake = Fake::of_with(profile, move |got, nth| {
        let fails =
            got.is("HEAD", "") || got.is_manifest_put() || got.is_blob_put() && got.line.contains("/1?");
        (fails && nth == 1).then(|| Instead::new(401).with("WWW-Authenticate", challenge.clone()))
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert_has(&fake, "app:t", &spec);
}

/// buildx#1653: Harbor 1.x takes no types of the OCI.
#[test]
fn a_registry_without_oci_types_is_named_in_the_error() {
    let (images, fake) = (Images::new(), Fake::of(Profile { takes_oci: false, ..Profile::default() }));
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().chain();
    let message = "MANIFEST_INVALID: unsupported type application/vnd.oci.image.manifest.v1+json";
    assert!(error.starts_with("cannot write the tag t: ") && error.ends_with(message), "{error}");
    assert_no_image(&fake, "app");
}
