//! Tokens: their life, their renewal, and token services that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fake::{Act, Auth, Fake, Instead, Profile, TokenService};
use super::images::{
    BASIC, Images, PATHS, anonymous, assert_has, assert_no_image, but, kinds, plain_push, user,
};

fn with(service: &TokenService) -> Profile {
    Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() }
}

/// A registry without encryption must not send the password to any other host without encryption.
#[test]
fn a_token_service_on_another_host_must_be_encrypted() {
    let images = Images::new();
    let fake = Fake::with(|_, _| {
        let challenge = "Bearer realm=\"http://tokens.example/token\",service=\"r\"";
        Some(Instead::new(401).with("WWW-Authenticate", challenge))
    });
    let error = images.push(&user(), &fake, &images.large(), &["app:t"]).unwrap_err().to_string();
    assert!(error.ends_with("the token service \"http://tokens.example\" is not encrypted"), "{error}");
}

#[test]
fn requests_that_fail_at_the_same_time_cause_one_renewal() {
    let service = TokenService::start(Some(BASIC));
    let tokens = service.clone();
    let expired = Arc::new(AtomicUsize::new(0));
    // The token ends when all blobs are looked up at the same time.
    let fake = Fake::new(with(&service), move |got, _| {
        if got.is("HEAD", "/blobs/") && expired.fetch_add(1, Ordering::Relaxed) == 0 {
            tokens.expire();
        }
        Act::Own
    });
    let images = Images::new();
    let spec = images.spec(&PATHS, "all");
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(service.lines().len(), 2);
    let kinds = kinds(&fake.requests());
    assert!(kinds["HEAD blob"] > 8 && kinds["HEAD blob"] <= 16, "{kinds:?}");
    assert_has(&fake, "app:t", &spec);
}

#[test]
fn answers_of_token_services_have_many_forms() {
    let images = Images::new();
    let spec = images.large();
    for service in [
        TokenService::start(Some(BASIC)),
        TokenService::start(Some(BASIC))
            .answering("expires_in", 3600)
            .answering("issued_at", "2026-01-01T00:00:00Z"),
        TokenService::start(Some(BASIC)).answering("expires_in", "300"),
        TokenService::start(Some(BASIC)).answering("expires_in", 300.5),
        TokenService::start(Some(BASIC)).answering("expires_in", -1),
        TokenService::start(Some(BASIC)).answering("expires_in", serde_json::Value::Null),
        TokenService::start(Some(BASIC)).answering("refresh_token", "r").answering("access_token", "other"),
    ] {
        let fake = Fake::of(with(&service));
        images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
        assert_has(&fake, "app:t", &spec);
        let requests = fake.requests();
        assert_eq!(requests[0].authorization, None);
        assert!(
            requests[1..].iter().all(|got| got.authorization.as_ref().unwrap().starts_with("Bearer opaque-"))
        );
    }
}

#[test]
fn a_token_service_that_is_overloaded_is_asked_again() {
    let images = Images::new();
    let spec = images.large();
    for status in [429, 500, 503] {
        let service = TokenService::with(Some(BASIC), move |_, nth| {
            (nth <= 3).then(|| Instead::new(status).with("Retry-After", "1"))
        });
        let fake = Fake::of(with(&service));
        images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
        assert_eq!(service.lines().len(), 4);
        assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2)]));
        assert_has(&fake, "app:t", &spec);
    }
}

#[test]
fn a_token_service_without_tokens_is_an_error() {
    let images = Images::new();
    let spec = images.large();
    let body = |text: &'static str| Instead { body: text.into(), ..Instead::new(200) };
    for (answer, part) in [
        (Instead::new(503), "cannot get a token: "),
        (Instead::new(404), "answered 404 Not Found"),
        (body("{}"), "the answer has no token"),
        (body(r#"{"token":""}"#), "the answer has no token"),
        (body("<html>"), "the token service's answer is not a token"),
    ] {
        let service = TokenService::with(Some(BASIC), move |_, _| Some(answer.clone()));
        let fake = Fake::of(with(&service));
        let error = images.push(&user(), &fake, &spec, &["app:t"]).unwrap_err().chain();
        assert!(error.contains(part), "{part}: {error}");
        assert!(service.lines().len() <= 8);
        assert_eq!(fake.lines(), ["GET /v2/app/manifests/t"]);
        assert_no_image(&fake, "app");
    }
}

#[test]
fn a_failed_login_is_an_error_and_never_followed_by_anonymous_requests() {
    let images = Images::new();
    let spec = images.large();
    // The service knows another user, or the registry accepts no token or password at all.
    let service = TokenService::start(Some("Basic b3RoZXI="));
    let deaf = TokenService::start(Some(BASIC));
    let challenge = deaf.challenge();
    for (profile, tokens, requests) in [
        (with(&service), 1, 1),
        (with(&deaf), 1, 2),
        (Profile { auth: Auth::Basic("Basic b3RoZXI=".into()), ..Profile::default() }, 0, 2),
    ] {
        let (is_deaf, challenge) = (tokens == 1 && requests == 2, challenge.clone());
        let fake = Fake::of_with(profile, move |_, _| {
            is_deaf.then(|| Instead::new(401).with("WWW-Authenticate", challenge.clone()))
        });
        let error = images.push(&user(), &fake, &spec, &["app:t"]).unwrap_err().to_string();
        let host = fake.address;
        assert_eq!(
            error,
            format!("{host} refuses access to the repository app: it does not accept the credentials")
        );
        let got = fake.requests();
        assert_eq!(got.len(), requests);
        assert!(got[1..].iter().all(|got| got.authorization.is_some()));
        assert_eq!(service.requests().len() + deaf.requests().len(), tokens);
        assert_no_image(&fake, "app");
    }
    let fake = Fake::of(with(&service));
    let error = images.push(&anonymous(), &fake, &spec, &["app:t"]).unwrap_err().to_string();
    assert!(error.ends_with("it requires credentials, and there are none for it"), "{error}");
}

#[test]
fn each_request_may_need_a_renewal() {
    // Each token allows five requests. Others may use up a token that one of them has renewed.
    let service = TokenService::start(Some(BASIC)).limited(5);
    let fake = Fake::of(with(&service));
    let images = Images::new();
    let spec = images.spec(&PATHS, "all");
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    let renewals = service.lines().len();
    assert!((4..=20).contains(&renewals), "{renewals}");
    assert_has(&fake, "app:t", &spec);
}

/// A long wait for an overloaded registry ends a token as well.
#[test]
fn a_request_is_authorized_again_after_it_was_throttled() {
    let service = TokenService::start(Some(BASIC));
    let tokens = service.clone();
    let fake = Fake::of_with(with(&service), move |got, nth| match (got.is_manifest_put(), nth) {
        // 401 at the first and third try, 503 at the second.
        (true, 1 | 3) => {
            tokens.expire();
            None
        }
        (true, 2) => Some(Instead::new(503)),
        _ => None,
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!((kinds(&fake.requests())["PUT manifest"], service.lines().len()), (4, 3));
    assert_has(&fake, "app:t", &spec);
}

/// Some services refuse all rights if one of them is refused.
#[test]
fn a_token_for_sources_that_is_refused_is_replaced_by_one_without_them() {
    let service = TokenService::with(Some(BASIC), |got, _| {
        got.line.contains("scope=repository%3Aone%3Apull&").then(|| Instead::new(403))
    });
    let fake = Fake::of(with(&service));
    let images = Images::new();
    let spec = images.large();
    let pushed = images.push(&user(), &fake, &spec, &["one:t", "two:t"]).unwrap();
    assert_eq!(pushed[1].sent.len(), 3);
    assert_has(&fake, "two:t", &spec);
}
