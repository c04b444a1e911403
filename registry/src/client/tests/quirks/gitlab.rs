//! GitLab, and other token services whose tokens live for minutes.

use std::time::Duration;

use super::super::fake::{Act, Auth, Fake, Profile, TokenService};
use super::super::images::{BASIC, Images, assert_has, but, kinds, limits, plain_push, user, user_with};
use crate::client::limits::Limits;

/// gitlab-ce#17890: the token ends within the upload of one layer.
#[test]
fn a_body_is_repeated_with_a_new_token() {
    let service = TokenService::start(Some(BASIC));
    let tokens = service.clone();
    let profile = Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() };
    let fake = Fake::of_with(profile, move |got, nth| {
        if got.is_blob_put() && got.line.contains("/1?") && nth == 1 {
            tokens.expire();
        }
        None
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert!(service.lines().len() == 2);
    let kinds = kinds(&fake.requests());
    assert!(kinds["PUT blob"] >= 3 && kinds["PUT blob"] <= 4, "{kinds:?}");
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn a_token_that_would_end_during_a_body_is_renewed_before_it() {
    let service = TokenService::start(Some(BASIC)).answering("expires_in", 60);
    let profile = Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() };
    // A token is new for a tenth of its life.
    let fake = Fake::new(profile, |got, _| match got.is("POST", "/uploads/") {
        true => Act::Stall(Duration::from_millis(150)),
        false => Act::Own,
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(service.lines().len(), 1, "the bodies end in time");
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2)]));
    assert_has(&fake, "app:t", &spec);

    let service = TokenService::start(Some(BASIC)).answering("expires_in", 1);
    fake.change(|registry| registry.profile.auth = Auth::Bearer(service.clone()));
    let client = user_with(Limits { assumed_speed: 1, ..limits() });
    images.push(&client, &fake, &spec, &["other:t"]).unwrap();
    // Both layers are sent at about the same time, so that one renewal may be for both.
    let tokens = service.lines().len();
    assert!((2..=3).contains(&tokens), "{tokens}");
    // No body was in vain.
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2)]));
    assert_has(&fake, "other:t", &spec);
}

/// moby#33558: each part of a long upload may need a new token.
#[test]
fn each_chunk_may_need_a_new_token() {
    let service = TokenService::start(Some(BASIC)).answering("expires_in", 0);
    let body_limit = Some(20_000);
    let fake = Fake::of(Profile { auth: Auth::Bearer(service.clone()), body_limit, ..Profile::default() });
    let images = Images::new();
    let spec = images.spec(&["a"], "chunks");
    let client = user_with(Limits { assumed_speed: 1, ..limits() });
    images.push(&client, &fake, &spec, &["app:t"]).unwrap();
    assert!(service.lines().len() > 5, "each chunk had a new token");
    assert_has(&fake, "app:t", &spec);
}
