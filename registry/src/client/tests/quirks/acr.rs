//! Azure Container Registry.

use super::super::fake::{Act, Fake, Got, Instead, Profile};
use super::super::images::{Images, anonymous, assert_has, but, kinds, limits, plain_push, with_credentials};
use crate::client::Credentials;
use crate::client::limits::Limits;

#[test]
fn refresh_tokens_are_exchanged_by_post() {
    let service = Fake::with(|got, _| {
        let body = r#"{"access_token":"access","expires_in":300}"#.to_owned();
        Some(match got.line.as_str() {
            "POST /token" => Instead { body, ..Instead::new(200) },
            _ => Instead::new(401),
        })
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"acr\"", service.address);
    let fake = Fake::with(move |got, _| {
        let is_allowed = got.authorization.as_deref() == Some("Bearer access");
        (!is_allowed).then(|| Instead::new(401).with("WWW-Authenticate", challenge.clone()))
    });
    let images = Images::new();
    let spec = images.large();
    let client = with_credentials(Credentials::IdentityToken("refresh+token".into()));
    images.push(&client, &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2)]));
    assert_has(&fake, "app:t", &spec);
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].line.as_str(), &requests[0].authorization), ("POST /token", &None));
    let form = "grant_type=refresh_token&client_id=nixply&refresh_token=refresh%2Btoken\
                &scope=repository%3Aapp%3Apull%2Cpush&service=acr";
    assert_eq!(service.state.lock().unwrap().forms, [form]);
}

fn is_large_put(got: &Got) -> bool {
    got.is_blob_put() && got.size > 20_000
}

/// Bodies above about 20 MB are cut off in a PUT, but not in Docker's PATCH.
#[test]
fn a_body_that_a_put_cannot_carry_is_sent_in_one_patch() {
    let images = Images::new();
    let spec = images.large();
    let too_large = Fake::of_with(Profile::default(), |got, _| is_large_put(got).then(|| Instead::new(413)));
    // The limit is far below the size of a chunk.
    let client = super::super::images::client_with(
        std::sync::Arc::new(()),
        Limits { chunk: Limits::default().chunk, ..limits() },
    );
    images.push(&client, &too_large, &spec, &["app:t"]).unwrap();
    let requests = too_large.requests();
    assert_eq!(kinds(&requests), but(plain_push(), &[("POST", 4), ("PUT blob", 4), ("PATCH", 2)]));
    assert!(requests.iter().all(|got| got.header("content-range").is_none()));
    assert!(requests.iter().all(|got| got.line.starts_with("GET")
        || got.line.starts_with("HEAD")
        || got.header("content-length").is_some()));
    assert_has(&too_large, "app:t", &spec);

    let resets = Fake::new(Profile::default(), |got, _| match is_large_put(got) {
        true => Act::DropBefore,
        false => Act::Own,
    });
    images.push(&anonymous(), &resets, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&resets.requests())["PATCH"], 2);
    assert_has(&resets, "app:t", &spec);
}
