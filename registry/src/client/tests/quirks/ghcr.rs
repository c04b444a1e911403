//! GitHub's ghcr.io.

use std::sync::Arc;

use super::super::fake::{Act, Auth, Fake, Instead, Patch, Profile, TokenService};
use super::super::images::{
    BASIC, Images, anonymous, assert_has, assert_no_image, but, kinds, manifest, plain_push, user,
};

fn ghcr(limit: usize) -> Profile {
    Profile { patch: Patch::Overwrites(limit), ..Profile::default() }
}

/// rust-oci-client#35: requests with a range and more than 4 MiB get status 416.
#[test]
fn layers_are_sent_whole_and_without_a_range() {
    let (images, fake) = (Images::new(), Fake::of(ghcr(4 << 10)));
    let spec = images.large();
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    assert_eq!(kinds(&requests), plain_push());
    assert!(requests.iter().all(|got| got.header("content-range").is_none()));
    assert!(requests.iter().any(|got| got.is_blob_put() && got.size > 64 << 10));
    assert_has(&fake, "app:t", &spec);
}

/// ocx#237: each PATCH replaces the bytes of the former ones.
#[test]
fn overwritten_chunks_are_an_error_and_never_a_wrong_blob() {
    let images = Images::new();
    for (limit, part) in [(4 << 20, "DIGEST_INVALID"), (4 << 10, "416 Range Not Satisfiable")] {
        let fake = Fake::of(Profile { body_limit: Some(40_000), ..ghcr(limit) });
        let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().chain();
        assert!(error.contains(part), "{error}");
        assert_no_image(&fake, "app");
    }
}

#[test]
fn artifacts_have_their_type_as_the_type_of_the_config() {
    let (images, fake) = (Images::new(), Fake::of(ghcr(4 << 20)));
    let spec = images.large();
    let pushed =
        images.push_with(&anonymous(), &fake, &spec, &["app:t"], Some("app:frames"), Arc::new(())).unwrap();
    assert!(matches!(pushed[0].frames, Some(Ok(_))), "{pushed:?}");
    let (value, manifest) = manifest(&fake, "app:frames");
    assert_eq!(value["artifactType"], manifest.config.media_type);
}

#[test]
fn tokens_are_opaque_and_slow_uploads_that_time_out_are_repeated_whole() {
    let service = TokenService::start(Some(BASIC));
    let profile = Profile { auth: Auth::Bearer(service.clone()), ..ghcr(4 << 20) };
    let fake = Fake::new(profile, |got, nth| match got.is_blob_put() && nth == 1 {
        // ocx#267: the connection ends after 135 s, or a proxy answers.
        true if got.line.contains("/1?") => Act::DropAfter,
        true if got.line.contains("/2?") => Act::Instead(Instead::new(504)),
        _ => Act::Own,
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    assert_eq!(kinds(&requests), but(plain_push(), &[("GET manifest", 2), ("POST", 4), ("PUT blob", 4)]));
    assert!(requests[1..].iter().all(|got| got.authorization.as_deref() == Some("Bearer opaque-1")));
    assert_eq!(service.lines(), ["GET /token?scope=repository%3Aapp%3Apull%2Cpush&service=r"]);
    assert_has(&fake, "app:t", &spec);
}
