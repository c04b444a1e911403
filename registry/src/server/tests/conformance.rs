//! The read-only cases of the OCI distribution conformance suite, restated (github.com/opencontainers/distribution-spec, conformance/:
//! `OCI_API_PUSH=false`). Each assertion names the case.

use nixply_oci::Digest;

use super::fixture::{Answer, Fixture, MANIFEST, OCI, ask, blob, get};
use crate::server::Server;

/// Asks for a resource with HEAD and GET. Both must have the same head, and only GET a body.
#[track_caller]
fn both(server: &Server, case: &str, path: &str, status: u16) -> Answer {
    let (head, get) = (ask(server, "HEAD", path, OCI), ask(server, "GET", path, OCI));
    assert_eq!((head.status, get.status), (status, status), "{case}");
    assert!(head.body.is_empty() && get.is_whole(), "{case}");
    for name in ["content-length", "content-type", "docker-content-digest"] {
        assert_eq!(head.header(name), get.header(name), "{case}: {name}");
    }
    get
}

#[test]
fn read_only_cases_of_the_conformance_suite_pass() {
    let fixture = Fixture::new();
    let spec = fixture.spec("gzip:1");
    let server = fixture.serve(&spec, "auto");

    // End-1: the API's version.
    assert_eq!(get(&server, "/v2/").status, 200, "GET request to base API path should return 200");

    // Pull, blobs.
    both(&server, "request to nonexistent blob should result in 404", &blob(Digest::of(b"none")), 404);
    let config = spec.config_blob();
    let digests = spec.layers.iter().map(|layer| layer.digest).chain([Digest::of(&config)]);
    for digest in digests {
        let found = both(&server, "request for existing blob should yield 200", &blob(digest), 200);
        assert_eq!(Digest::of(&found.body), digest, "the blob's bytes have its digest");
        assert_eq!(found.header("docker-content-digest"), Some(&digest.to_string()[..]));
        let part = ask(&server, "GET", &blob(digest), "Range: bytes=1-3\r\n");
        assert_eq!((part.status, &part.body[..]), (206, &found.body[1..4]), "a range of a blob");
        let size = found.body.len();
        assert_eq!(part.header("content-range"), Some(&format!("bytes 1-3/{size}")[..]));
        let beyond = ask(&server, "GET", &blob(digest), &format!("Range: bytes={size}-\r\n"));
        assert_eq!(beyond.status, 416, "a range after the end");
    }

    // Pull, manifests.
    both(
        &server,
        "request to nonexistent manifest should return 404",
        "/v2/some/image/manifests/.INVALID_MANIFEST_NAME",
        404,
    );
    both(&server, "request to nonexistent manifest should return 404", &MANIFEST.replace("/t", "/none"), 404);
    let by_tag = both(&server, "request to manifest path (tag) should yield 200 response", MANIFEST, 200);
    let digest = Digest::of(&by_tag.body);
    assert_eq!(by_tag.header("docker-content-digest"), Some(&digest.to_string()[..]));
    assert_eq!(by_tag.header("content-type"), by_tag.json()["mediaType"].as_str());
    let path = format!("/v2/some/image/manifests/{digest}");
    let by_digest = both(&server, "request to manifest path (digest) should yield 200 response", &path, 200);
    assert_eq!(by_digest.body, by_tag.body);

    // Pull, error codes: a 4xx answer has the error format.
    let error = get(&server, "/v2/some/image/manifests/sha256:totallywrong");
    assert!((400..500).contains(&error.status) && !error.code().is_empty(), "{error:?}");

    // Content discovery, tags: an n limits the list, and n and last continue it.
    let tags = get(&server, "/v2/some/image/tags/list").json();
    assert_eq!((&tags["name"], &tags["tags"]), (&"some/image".into(), &["t"].into()));
    assert_eq!(get(&server, "/v2/some/image/tags/list?n=0").json()["tags"], serde_json::json!([]));
    assert_eq!(get(&server, "/v2/some/image/tags/list?n=4&last=t").json()["tags"], serde_json::json!([]));

    // Content discovery, referrers: an empty index instead of 404.
    for subject in [digest, Digest::of(b"none")] {
        let referrers = get(&server, &format!("/v2/some/image/referrers/{subject}"));
        assert_eq!((referrers.status, referrers.header("content-type")), (200, Some(nixply_oci::INDEX)));
        assert_eq!(referrers.json()["manifests"], serde_json::json!([]));
    }

    // Push and content management are not offered.
    for (method, path) in [
        ("POST", "/v2/some/image/blobs/uploads/".to_owned()),
        ("PUT", MANIFEST.to_owned()),
        ("DELETE", path),
        ("DELETE", blob(Digest::of(&config))),
    ] {
        let answer = ask(&server, method, &path, OCI);
        assert_eq!((answer.status, answer.code()), (405, "UNSUPPORTED".into()), "{method} {path}");
    }
}
