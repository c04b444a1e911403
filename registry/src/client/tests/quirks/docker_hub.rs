//! Docker Hub.

use std::sync::Arc;

use super::super::fake::{Auth, Fake, Profile, TokenService};
use super::super::images::{BASIC, Images, anonymous, assert_has, but, kinds, plain_push, user};
use crate::client::Push;
use crate::client::http::Host;
use crate::content::Image;

#[test]
fn the_api_has_another_host_and_tags_are_looked_up_without_reading_manifests() {
    let (images, fake) = (Images::new(), Fake::start());
    let spec = images.large();
    let client = anonymous();
    let http = reqwest::Client::builder().no_proxy().resolve("registry-1.docker.io", fake.address).build();
    let host =
        Host { http: http.unwrap(), is_plain: true, plain_hosts: Default::default(), paces: Arc::default() };
    client.hosts.lock().unwrap().insert("docker.io".into(), host);
    let push = || {
        let image = Image::new("image", "t", spec.clone()).unwrap();
        let to = vec!["docker.io/app:t".parse().unwrap()];
        let content = images.settings();
        client.push(Push { image, to, content, cache_to: None, dry_run: false }, &mut |_| {}).unwrap();
    };
    push();
    let requests = fake.requests();
    assert_eq!(kinds(&requests), but(plain_push(), &[("GET manifest", 0), ("HEAD manifest", 1)]));
    assert!(requests.iter().all(|got| got.header("host") == Some("registry-1.docker.io")), "{requests:?}");
    push();
    assert_eq!(fake.lines(), ["HEAD /v2/library/app/manifests/t"]);
    assert_has(&fake, "library/app:t", &spec);
}

/// go-containerregistry#1741: mounts with a foreign `origin` fail. rules_img#712: tokens of one repository cannot mount.
#[test]
fn mounts_name_no_origin_and_the_token_covers_the_source() {
    let service = TokenService::start(Some(BASIC));
    let fake = Fake::of(Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() });
    let images = Images::new();
    let spec = images.large();
    let pushed = images.push(&user(), &fake, &spec, &["one:t", "two:t"]).unwrap();
    assert_eq!((pushed[1].mounted.len(), pushed[1].bytes), (3, 0));
    assert!(fake.lines().iter().all(|line| !line.contains("origin")));
    assert_eq!(
        service.lines(),
        [
            "GET /token?scope=repository%3Aone%3Apull%2Cpush&service=r",
            "GET /token?scope=repository%3Atwo%3Apull%2Cpush&scope=repository%3Aone%3Apull&service=r",
        ]
    );
    assert_has(&fake, "two:t", &spec);
}

#[test]
fn a_token_without_the_right_to_the_source_leads_to_an_upload() {
    let service = TokenService::start(Some(BASIC));
    let fake = Fake::of(Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() });
    let images = Images::new();
    let spec = images.large();
    let client = user();
    images.push(&client, &fake, &spec, &["one:t"]).unwrap();
    let _service = service.denying("one");
    fake.requests();
    let pushed = images.push(&client, &fake, &spec, &["two:t"]).unwrap();
    assert_eq!((pushed[0].mounted.len(), pushed[0].sent.len()), (0, 3));
    assert_has(&fake, "two:t", &spec);
    // The refused mounts end the attempts to mount.
    assert!(kinds(&fake.requests())["POST mount"] <= 6);
}

/// buildx#324: the token ends during a long upload, so that writing the manifest fails.
#[test]
fn a_token_that_ends_before_the_manifest_is_renewed_once() {
    let service = TokenService::start(Some(BASIC));
    let tokens = service.clone();
    let profile = Profile { auth: Auth::Bearer(service.clone()), ..Profile::default() };
    let fake = Fake::of_with(profile, move |got, nth| {
        if got.is_manifest_put() && nth == 1 {
            tokens.expire();
        }
        None
    });
    let images = Images::new();
    let spec = images.large();
    images.push(&user(), &fake, &spec, &["app:t"]).unwrap();
    assert_eq!(kinds(&fake.requests()), but(plain_push(), &[("GET manifest", 2), ("PUT manifest", 2)]));
    assert_eq!(service.lines().len(), 2);
    assert_has(&fake, "app:t", &spec);
}
