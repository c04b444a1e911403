//! JFrog Artifactory.

use super::super::fake::{Fake, Mount, Profile};
use super::super::images::{Images, anonymous, assert_has, but, kinds, plain_push};

fn artifactory() -> Profile {
    Profile { mount: Mount::Committed, ..Profile::default() }
}

#[test]
fn an_image_is_complete_in_one_repository_before_its_blobs_are_mounted_in_another() {
    let (images, fake) = (Images::new(), Fake::of(artifactory()));
    let spec = images.large();
    let pushed = images.push(&anonymous(), &fake, &spec, &["one:t", "two:t"]).unwrap();
    assert_eq!((pushed[1].mounted.len(), pushed[1].bytes), (3, 0));
    let lines = fake.lines();
    let manifest = lines.iter().position(|line| line == "PUT /v2/one/manifests/t").unwrap();
    assert!(lines[..manifest].iter().all(|line| line.contains("/v2/one/")), "{lines:#?}");
    assert!(lines[manifest + 1..].iter().all(|line| line.contains("/v2/two/")), "{lines:#?}");
    assert_has(&fake, "two:t", &spec);
}

/// rust-oci-client#205, buildx#196: a PUT to a new session was an error 404 in 2019.
#[test]
fn a_patch_is_sent_where_a_whole_put_is_unknown() {
    let (images, fake) = (Images::new(), Fake::of(Profile { whole_put: false, ..artifactory() }));
    let spec = images.large();
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let kinds = kinds(&fake.requests());
    assert_eq!((kinds["PATCH"], kinds["POST"], kinds["PUT blob"]), (2, 8, 8));
    assert_has(&fake, "app:t", &spec);
}

/// nora#688: a single POST stores nothing, and is answered by a session.
#[test]
fn small_blobs_go_to_the_session_that_a_single_post_starts() {
    let (images, fake) = (Images::new(), Fake::of(Profile { single_post: false, ..artifactory() }));
    let spec = images.spec(&["a", "c", "d"], "small");
    images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
    let kinds = kinds(&fake.requests());
    assert_eq!(kinds["PUT blob"], 4);
    assert_eq!(kinds["POST"] + kinds["POST blob"], 4);
    assert_has(&fake, "app:t", &spec);

    // Later uploads do not try it again.
    let other = images.spec(&["a", "c", "d"], "other");
    let client = anonymous();
    images.push(&client, &fake, &other, &["app:t"]).unwrap();
    assert_has(&fake, "app:t", &other);
}

#[test]
fn a_registry_that_refuses_single_posts_gets_a_session() {
    let images = Images::new();
    let spec = images.large();
    for status in [400, 404, 405, 500] {
        let fake = Fake::with(move |got, _| {
            got.is("POST", "?digest=").then(|| super::super::fake::Instead::new(status))
        });
        images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap();
        let posts = if status == 500 { 3 } else { 1 };
        let expected = but(plain_push(), &[("POST blob", posts), ("POST", 3), ("PUT blob", 3)]);
        assert_eq!(kinds(&fake.requests()), expected, "{status}");
        assert_has(&fake, "app:t", &spec);
    }
}
