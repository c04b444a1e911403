//! Tests of the server over a socket, as clients see it. The store is a temporary directory; the tests need no Nix.

mod cached;
mod clients;
mod conformance;
pub(crate) mod fixture;
mod indexes;
mod observing;
mod packing;

use std::fs;

use nixply_documents::go_json;
use nixply_oci::Digest;
use nixply_packer::{Codec, Control, Packer, Packing};
use serde_json::json;

use self::fixture::{Fixture, MANIFEST, OCI, ask, blob, get, noise};
use super::{Options, Server};
use crate::content::{Compression, Image};
use crate::error::Error;

#[test]
fn layers_with_recorded_digests_are_packed_only_when_read() {
    let fixture = Fixture::new();
    let recorded = Codec::all().map(|codec| (codec.name(), codec.name()));
    for (codec, served) in recorded.chain([("gzip", "auto"), ("zstd:1", "auto")]) {
        let spec = fixture.spec(codec);
        let server = fixture.serve(&spec, served);
        let manifest = get(&server, MANIFEST);
        let expected = go_json::compact(&spec.manifest());
        assert_eq!((manifest.status, &manifest.body), (200, &expected), "{codec}");
        assert_eq!(manifest.header("content-type"), Some(nixply_oci::MANIFEST));
        let digest = Digest::of(&expected).to_string();
        assert_eq!(manifest.header("docker-content-digest"), Some(&digest[..]));
        let by_digest = get(&server, &format!("/v2/some/image/manifests/{digest}"));
        assert_eq!(by_digest.body, expected);
        let head = ask(&server, "HEAD", MANIFEST, OCI);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(&expected.len().to_string()[..]));

        let config = get(&server, &blob(Digest::of(&spec.config_blob())));
        assert_eq!(config.body, spec.config_blob());
        for layer in &spec.layers {
            let head = ask(&server, "HEAD", &blob(layer.digest), "");
            assert_eq!((head.status, head.body.len()), (200, 0), "{codec}");
            assert_eq!(head.header("content-length"), Some(&layer.size.to_string()[..]));
            assert_eq!(head.header("accept-ranges"), Some("bytes"));
            assert_eq!(head.header("etag"), Some(&format!("\"{}\"", layer.digest)[..]));
        }
        assert_eq!(server.counts().packings, 0, "{codec}");
        let layer = &spec.layers[1];
        let whole = get(&server, &blob(layer.digest));
        assert_eq!((Digest::of(&whole.body), whole.body.len() as u64), (layer.digest, layer.size), "{codec}");
        let counts = server.counts();
        assert_eq!(counts.packings, 1, "{codec}");
        assert_eq!(counts.sent.get(&layer.digest), Some(&layer.size));
        assert_eq!(counts.sent.get(&spec.layers[0].digest), None);
        assert_eq!(fixture.reports.lock().unwrap()[..], [""; 0]);
    }
}

#[test]
fn unrecorded_digests_are_found_once_per_codec() {
    let fixture = Fixture::new();
    let spec = fixture.spec("none");
    let server = fixture.serve(&spec, "auto");
    let old = format!("{OCI}User-Agent: docker/20.10.24+dfsg1 go/go1.19.8\r\n");
    let mut digests = Vec::new();
    for (headers, codec, packings) in [(OCI, "zstd", 2), (&old, "gzip", 4), (OCI, "zstd", 4), ("", "gzip", 4)]
    {
        let manifest = ask(&server, "GET", MANIFEST, headers);
        let layers = manifest.json()["layers"].as_array().unwrap().clone();
        assert_eq!(layers.len(), 2);
        for layer in layers {
            assert!(layer["mediaType"].as_str().unwrap().ends_with(&format!("tar+{codec}")), "{layer}");
            let whole = get(&server, &blob(layer["digest"].as_str().unwrap()));
            assert_eq!(layer["digest"], Digest::of(&whole.body).to_string());
            assert_eq!(layer["size"], whole.body.len());
        }
        assert_eq!(server.counts().packings, packings, "{codec}");
        digests.push(manifest.header("docker-content-digest").unwrap().to_owned());
    }
    assert_eq!((&digests[0], &digests[1]), (&digests[2], &digests[3]));
    assert_ne!(digests[0], digests[1]);
    // A new server finds the manifest by its digest although no client has requested the tag.
    let server = fixture.serve(&spec, "auto");
    assert_eq!(get(&server, &format!("/v2/some/image/manifests/{}", digests[0])).status, 200);
    assert_eq!(server.counts().packings, 2);
}

#[test]
fn fixed_codec_applies_to_all_clients_and_matches_a_layout() {
    let fixture = Fixture::new();
    let (plain, zstd) = (fixture.spec("none"), fixture.spec("zstd"));
    for (spec, codec) in [(&plain, "zstd"), (&zstd, "gzip:1"), (&zstd, "none")] {
        let server = fixture.serve(spec, codec);
        let manifest = ask(&server, "GET", MANIFEST, "User-Agent: docker/19.03.1\r\n");
        let directory = tempfile::tempdir().unwrap();
        let stop = Default::default();
        let written = nixply_packer::image::layout::write(
            spec,
            &directory.path().join("layout"),
            "t",
            Some(codec.parse().unwrap()),
            &Packing::new(&fixture.store(), &Packer::new(2), &Control::new(&stop, &())),
        );
        assert_eq!(Digest::of(&manifest.body), written.unwrap().manifest, "{codec}");
        assert_eq!(server.counts().packings, 2);
    }
}

#[test]
fn ranges_follow_rfc_9110() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd");
    let server = fixture.serve(&spec, "auto");
    let (digest, size) = (spec.layers[0].digest, spec.layers[0].size);
    let range = |range: &str| ask(&server, "GET", &blob(digest), &format!("Range: bytes={range}\r\n"));
    // Request the end first: the answer waits until the layer is packed to its end.
    let tail = range("-100");
    assert_eq!((tail.status, tail.body.len()), (206, 100));
    let expected = format!("bytes {}-{}/{size}", size - 100, size - 1);
    assert_eq!(tail.header("content-range"), Some(&expected[..]));
    assert_eq!(tail.header("content-length"), Some("100"));
    let whole = get(&server, &blob(digest)).body;
    assert_eq!(tail.body, &whole[whole.len() - 100..]);
    assert_eq!(range("10-19").body, &whole[10..20]);
    assert_eq!(range("300000-").body, &whole[300_000..]);
    assert_eq!(range("0-99999999999").body, whole);
    let outside = range(&format!("{size}-"));
    assert_eq!((outside.status, outside.code()), (416, "RANGE_INVALID".into()));
    assert_eq!(outside.header("content-range"), Some(&format!("bytes */{size}")[..]));
    let several = range("0-1,5-6");
    assert_eq!((several.status, &several.body), (200, &whole));
    // An If-Range of another blob, and of this one.
    let other = ask(&server, "GET", &blob(digest), "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n");
    assert_eq!((other.status, &other.body), (200, &whole));
    let same = format!("Range: bytes=0-1\r\nIf-Range: \"{digest}\"\r\n");
    assert_eq!(ask(&server, "GET", &blob(digest), &same).status, 206);
    let known = format!("If-None-Match: \"{digest}\"\r\n");
    let unchanged = ask(&server, "GET", &blob(digest), &known);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let head = ask(&server, "HEAD", &blob(digest), "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, Some(&size.to_string()[..])));
    let config = Digest::of(&spec.config_blob());
    let part = ask(&server, "GET", &blob(config), "Range: bytes=1-4\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &spec.config_blob()[1..5]));
    assert_eq!(server.counts().packings, 1);
}

/// RFC 3986, 2.1 and 6.2.2.2: a percent-encoded character equals the plain one.
#[test]
fn percent_encoded_paths_are_equivalent() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd");
    let server = fixture.serve(&spec, "auto");
    let manifest = get(&server, MANIFEST);
    let digest = manifest.header("docker-content-digest").unwrap().replace(':', "%3A");
    for path in [
        format!("/v2/some/image/manifests/{digest}"),
        "/v2/some/im%61ge/manifests/%74".into(),
        "/v2/some%2fimage/manifests/t".into(),
    ] {
        assert_eq!(get(&server, &path).body, manifest.body, "{path}");
    }
    let layer = spec.layers[0].digest.to_string().replace(':', "%3a");
    assert_eq!(Digest::of(&get(&server, &blob(layer)).body), spec.layers[0].digest);
    assert_eq!(get(&server, "/v2/some/image/tags%2Flist").json()["tags"], json!(["t"]));
    for (path, code) in
        [("/v2/some/image/manifests/%ff", "MANIFEST_UNKNOWN"), ("/v2/some/image/blobs/%", "DIGEST_INVALID")]
    {
        assert_eq!(get(&server, path).code(), code, "{path}");
    }
}

#[test]
fn errors_follow_the_specification() {
    let fixture = Fixture::new();
    let server = fixture.serve(&fixture.spec("zstd"), "auto");
    let absent = Digest::of(b"absent");
    for (method, path, status, code) in [
        ("GET", MANIFEST.replace("/t", "/u"), 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("/v2/some/image/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/some/image/manifests/sha256:0".into(), 400, "DIGEST_INVALID"),
        ("GET", "/v2/other/manifests/t".into(), 404, "NAME_UNKNOWN"),
        ("GET", format!("/v2/other/blobs/{absent}"), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/other/tags/list".into(), 404, "NAME_UNKNOWN"),
        ("GET", blob(absent), 404, "BLOB_UNKNOWN"),
        ("GET", blob("sha512:00"), 404, "BLOB_UNKNOWN"),
        ("GET", blob("../../etc/passwd"), 404, "UNSUPPORTED"),
        ("GET", blob("x"), 400, "DIGEST_INVALID"),
        ("GET", "/".into(), 404, "UNSUPPORTED"),
        ("GET", "/v2/_catalog".into(), 404, "UNSUPPORTED"),
        ("POST", "/v2/some/image/blobs/uploads/".into(), 405, "UNSUPPORTED"),
        ("PUT", MANIFEST.into(), 405, "UNSUPPORTED"),
        ("PATCH", blob(absent), 405, "UNSUPPORTED"),
        ("DELETE", MANIFEST.into(), 405, "UNSUPPORTED"),
    ] {
        let answer = ask(&server, method, &path, OCI);
        assert_eq!((answer.status, answer.code()), (status, code.into()), "{method} {path}");
        assert!(answer.is_whole() && answer.header("content-type") == Some("application/json"));
        assert_eq!(answer.header("allow").is_some(), status == 405);
        let head = ask(&server, if method == "GET" { "HEAD" } else { method }, &path, OCI);
        assert_eq!((head.status, head.body.is_empty()), (status, method == "GET"), "{method} {path}");
    }
    let base = get(&server, "/v2/");
    assert_eq!((base.status, &base.body[..]), (200, &b"{}"[..]));
    assert_eq!(base.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert!(fixture.reports.lock().unwrap().is_empty());
}

/// Layers of nix2container's base images are files, and may have no size (its #207).
#[test]
fn base_layers_are_served_from_their_files() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("zstd");
    let server = fixture.serve(&spec, "auto");
    let bytes = get(&server, &blob(spec.layers[0].digest)).body;
    let file = fixture.directory.path().join("blob");
    fs::write(&file, &bytes).unwrap();
    let base = &mut spec.layers[0];
    (base.layer_path, base.size, base.compression) = (Some(file.display().to_string()), 0, None);
    base.paths.clear();
    let digest = base.digest;
    let server = fixture.serve(&spec, "none");
    let layers = get(&server, MANIFEST).json()["layers"].clone();
    assert_eq!(layers[0]["size"], bytes.len());
    assert!(layers[0]["mediaType"].as_str().unwrap().ends_with("zstd"));
    assert!(layers[1]["mediaType"].as_str().unwrap().ends_with("tar"));
    for _ in 0..2 {
        assert_eq!(get(&server, &blob(digest)).body, bytes);
    }
    assert_eq!(ask(&server, "GET", &blob(digest), "Range: bytes=5-\r\n").body, &bytes[5..]);
    fs::write(&file, noise(7, bytes.len())).unwrap();
    let server = fixture.serve(&spec, "none");
    assert!(!get(&server, &blob(digest)).is_whole());
    let report = fixture.reports.lock().unwrap().join("\n");
    assert!(report.contains("blob has the digest"), "{report}");
    assert!(report.ends_with(&file.display().to_string()), "{report}");
    fs::remove_file(&file).unwrap();
    let again = Image::new("a", "t", spec).unwrap();
    assert!(matches!(Server::start(vec![again], fixture.options("auto")), Err(Error::Packer(_))));
}

#[test]
fn invalid_images_and_options_fail_at_the_start() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd");
    let start = |change: &dyn Fn(&mut Options), names: &[&str]| {
        let mut options = fixture.options("auto");
        change(&mut options);
        let image = |name: &&str| Image::new(name, "t", spec.clone()).unwrap();
        let error =
            Server::start(names.iter().map(image).collect(), options).err().map(|error| error.chain());
        error.unwrap_or_default()
    };
    let anywhere = |options: &mut Options| options.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(&anywhere, &["a"]);
    assert!(error.starts_with("0.0.0.0:0 can be reached from other machines"), "{error}");
    assert!(error.ends_with("listen on a loopback address such as 127.0.0.1:0"), "{error}");
    let allowed = |options: &mut Options| {
        anywhere(options);
        options.allow_remote = true;
    };
    assert_eq!(start(&allowed, &["a"]), "");
    assert!(start(&|_| {}, &["a", "a"]).starts_with("two images are called a:t;"));
    let error = start(&|options| options.content.scratch = "/nonexistent".into(), &["a"]);
    assert!(error.starts_with("cannot write packed layers to the directory /nonexistent: "), "{error}");
    let taken = fixture.serve(&spec, "auto");
    let error = start(&|options| options.listen = taken.address(), &["a"]);
    assert!(error.starts_with(&format!("cannot listen on {}; name another", taken.address())), "{error}");
    assert!(matches!(Image::new("localhost:5000/a", "t", spec.clone()), Err(Error::Host(_))));
    for (name, tag) in [("a b", "t"), ("a", "-t")] {
        assert!(matches!(Image::new(name, tag, spec.clone()), Err(Error::Packer(_))));
    }
    assert_eq!(Compression::default().to_string(), "auto");
}
