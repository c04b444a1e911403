//! Amazon ECR.

use super::super::fake::{Act, Auth, Fake, Instead, Mount, Patch, Profile};
use super::super::images::{Images, anonymous, as_user, assert_has, assert_no_image, but, kinds, plain_push};

fn ecr() -> Profile {
    Profile { patch: Patch::DropsLater, names_places: false, mount: Mount::Never, ..Profile::default() }
}

/// containers-roadmap#2831: the second and all later chunks are lost in silence.
#[test]
fn layers_are_sent_whole() {
    let (images, fake) = (Images::new(), Fake::of(ecr()));
    let spec = images.large();
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    assert_eq!(kinds(&requests), plain_push());
    assert!(requests.iter().all(|got| got.header("content-range").is_none()));
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn dropped_chunks_are_an_error_and_never_a_wrong_blob() {
    let (images, fake) = (Images::new(), Fake::of(Profile { body_limit: Some(40_000), ..ecr() }));
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap_err().chain();
    assert!(
        error.starts_with("cannot upload the blob sha256:") && error.contains("DIGEST_INVALID"),
        "{error}"
    );
    assert!(kinds(&fake.requests())["PATCH"] > 1);
    assert_no_image(&fake, "app");
}

/// ECR's session of one PATCH is whole. Its status is 201 instead of 202.
#[test]
fn one_patch_with_status_201_is_accepted() {
    let (images, fake) = (Images::new(), Fake::of(Profile { whole_put: false, ..ecr() }));
    let spec = images.large();
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&fake.requests())["PATCH"], 2);
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn manifests_need_no_location() {
    let (images, fake) = (Images::new(), Fake::of(ecr()));
    let spec = images.large();
    let pushed = images.push(&anonymous(), &fake, &spec, &["app:1", "app:2"]).unwrap();
    assert_eq!((pushed.len(), pushed[0].tags.len()), (1, 2));
    for tag in ["app:1", "app:2"] {
        assert_has(&fake, tag, &spec);
    }
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2), ("PUT manifest", 2)]));
}

#[test]
fn the_challenge_decides_on_basic_authentication() {
    let user = "Basic QVdTOnRva2Vu".to_owned();
    let (images, fake) = (Images::new(), Fake::of(Profile { auth: Auth::Basic(user.clone()), ..ecr() }));
    let spec = images.large();
    images.push(&as_user("AWS", "token"), &fake, &spec, &["app:t"]).unwrap();
    let requests = fake.requests();
    // Only the first request has no password.
    assert_eq!(kinds(&requests), but(plain_push(), &[("GET manifest", 2)]));
    assert_eq!(requests[0].authorization, None);
    assert!(requests[1..].iter().all(|got| got.authorization.as_ref() == Some(&user)));
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn a_refused_mount_continues_with_the_session_that_it_starts() {
    let images = Images::new();
    let spec = images.large();
    for (mount, mounts) in [(Mount::Never, 0), (Mount::Committed, 3)] {
        let fake = Fake::of(Profile { mount, ..ecr() });
        let pushed = images.push(&anonymous(), &fake, &spec, &["one:t", "two:t"]).unwrap();
        assert_eq!((pushed[1].mounted.len(), pushed[1].sent.len()), (mounts, 3 - mounts));
        let requests: Vec<_> =
            fake.requests().into_iter().filter(|got| got.line.contains("/v2/two/")).collect();
        let expected =
            [("GET manifest", 1), ("POST mount", 3), ("PUT blob", 3 - mounts), ("PUT manifest", 1)];
        assert_eq!(kinds(&requests), but(expected.into(), &[]));
        assert_has(&fake, "two:t", &spec);
    }
}

#[test]
fn throttled_actions_are_retried_also_after_503() {
    let images = Images::new();
    let spec = images.large();
    for status in [429, 503] {
        let fake = Fake::of_with(ecr(), move |got, nth| {
            let is_limited = got.is("POST", "/uploads/") || got.is_manifest_put();
            (is_limited && nth <= 2).then(|| Instead::new(status))
        });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        // Uploads of the two layers start with the same line, so that it fails twice in all.
        let changes = [("POST", 4), ("POST blob", 3), ("PUT manifest", 3)];
        assert_eq!(kinds(&fake.requests()), but(plain_push(), &changes));
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn an_absent_repository_is_named_in_the_error() {
    let repositories = Some([String::from("other")].into());
    let (images, fake) = (Images::new(), Fake::of(Profile { repositories, ..ecr() }));
    let error = images.push(&anonymous(), &fake, &images.large(), &["team/app:t"]).unwrap_err().chain();
    let message = "NAME_UNKNOWN: The repository with name 'team/app' does not exist in the registry";
    assert!(error.ends_with(&format!("answered 404 Not Found, {message}")), "{error}");
    assert!(!kinds(&fake.requests()).contains_key("PUT blob"));
}

#[test]
fn an_immutable_tag_with_the_same_image_is_a_success() {
    let images = Images::new();
    let (spec, other) = (images.large(), images.spec(&["c"], "other"));
    // Another client writes the tag after this one has looked it up.
    let fake = Fake::new(Profile { immutable_tags: true, ..ecr() }, |got, nth| match got.line.as_str() {
        "GET /v2/app/manifests/t" if nth == 1 => Act::Instead(Instead::new(404)),
        _ if got.is_manifest_put() && nth == 1 => Act::Twice,
        _ => Act::Own,
    });
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2)]));
    assert_has(&fake, "app:t", &spec);

    let error = images.push(&anonymous(), &fake, &other, &["app:t"]).unwrap_err().chain();
    assert!(error.starts_with("cannot write the tag t: "), "{error}");
    assert!(
        error.ends_with("TAG_INVALID: The image tag 't' already exists and cannot be overwritten"),
        "{error}"
    );
    assert_has(&fake, "app:t", &spec);
}

/// rules_oci#720: a HEAD with an invalid tag gets status 400 without a body.
#[test]
fn invalid_tags_cause_no_request() {
    let (images, fake) = (Images::new(), Fake::of(ecr()));
    let error = images.push(&anonymous(), &fake, &images.large(), &["app:a b"]).unwrap_err().to_string();
    assert!(error.contains("tag \"a b\" is not valid"), "{error}");
    assert!(fake.requests().is_empty());
}
