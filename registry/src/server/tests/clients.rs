//! Access of clients, and their effect on each other.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nixply_oci::Digest;
use nixply_packer::{Cache, ImageSpec, Packer};

use super::fixture::{Fixture, MANIFEST, OCI, ask, blob, get, noise, nothing_in};
use crate::content::Image;
use crate::server::{Options, Readers, Secret, Server};

/// An image whose first layer is a file, and that file.
fn base(fixture: &Fixture, bytes: &[u8]) -> (ImageSpec, PathBuf) {
    let mut spec = fixture.spec("none");
    let file = fixture.directory.path().join("blob");
    fs::write(&file, bytes).unwrap();
    let layer = &mut spec.layers[0];
    layer.paths.clear();
    (layer.layer_path, layer.size) = (Some(file.display().to_string()), bytes.len() as u64);
    layer.digest = Digest::of(bytes);
    (spec, file)
}

/// Sends this request head and returns the answer.
fn answer(server: &Server, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends this request head and returns the status.
fn status(server: &Server, head: &str) -> u16 {
    answer(server, head).split(' ').nth(1).unwrap_or("0").parse().unwrap()
}

/// The server never sends the end of a wrong file, neither in a range nor if the file was right before.
#[test]
fn end_of_a_wrong_file_is_never_sent() {
    let fixture = Fixture::new();
    let bytes = noise(5, 1_000_000);
    let (spec, file) = base(&fixture, &bytes);
    let path = blob(spec.layers[0].digest);
    let part = |server: &Server, range: &str| ask(server, "GET", &path, &format!("Range: bytes={range}\r\n"));
    let ends = ["400000-", "-1", "999999-", "0-999999", "-2000000"];
    let server = fixture.serve(&spec, "none");
    assert_eq!(get(&server, &path).body, bytes);
    for range in ends {
        let answer = part(&server, range);
        assert!(answer.is_whole() && bytes.ends_with(&answer.body), "{range}");
    }
    assert_eq!(part(&server, "10-19").body, &bytes[10..20]);
    assert!(fixture.reports.lock().unwrap().is_empty());
    // The same file with one changed byte, while the server runs and before it starts.
    let mut wrong = bytes.clone();
    wrong[300_000] ^= 1;
    fs::write(&file, &wrong).unwrap();
    for server in [&server, &fixture.serve(&spec, "none")] {
        assert!(!get(server, &path).is_whole());
        for range in ends {
            assert!(!part(server, range).is_whole(), "{range}");
        }
        let reports = std::mem::take(&mut *fixture.reports.lock().unwrap());
        assert_eq!(reports.len(), 1 + ends.len(), "{reports:?}");
        assert!(reports.iter().all(|report| report.contains("blob has the digest")), "{reports:?}");
    }
    // The file is read each time, so a repair takes effect.
    fs::write(&file, &bytes).unwrap();
    assert_eq!(get(&server, &path).body, bytes);
    assert_eq!(part(&server, "-1").body, &bytes[bytes.len() - 1..]);
    // Truncated.
    fs::write(&file, &bytes[..500_000]).unwrap();
    assert!(!get(&server, &path).is_whole() && !part(&server, "-1").is_whole());
    let report = fixture.reports.lock().unwrap().join("\n");
    assert!(report.contains(&format!("cannot read layer file: {}", file.display())), "{report}");
}

/// The server serves the file that existed at the start, even if its name later leads elsewhere.
#[test]
fn replaced_layer_file_does_not_change_the_served_bytes() {
    let fixture = Fixture::new();
    let bytes = noise(5, 100_000);
    let (mut spec, file) = base(&fixture, &bytes);
    let secret = fixture.directory.path().join("secret");
    fs::write(&secret, noise(6, 100_000)).unwrap();
    let server = fixture.serve(&spec, "none");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    assert_eq!(get(&server, &blob(spec.layers[0].digest)).body, bytes);
    let part = ask(&server, "GET", &blob(spec.layers[0].digest), "Range: bytes=0-99\r\n");
    assert_eq!(part.body, &bytes[..100]);
    // A path in the store must not leave the store, from the start.
    let link = fixture.real("a").join("link");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    spec.layers[0].layer_path = Some(format!("{}/link", Fixture::path("a")));
    let image = Image::new("some/image", "t", spec).unwrap();
    let error = Server::start(vec![image], fixture.options("none")).err().unwrap().chain();
    assert!(error.starts_with("cannot open layer file: ") && error.contains("outside of"), "{error}");
}

/// A layer file that is not a regular file is an error at the start.
#[test]
fn layer_files_are_checked_when_the_server_starts() {
    let fixture = Fixture::new();
    let (mut spec, _) = base(&fixture, b"text");
    let start = |spec: &ImageSpec| {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        Server::start(vec![image], fixture.options("none")).err().unwrap().chain()
    };
    for (path, kind) in [("/dev/zero", "a device"), ("/tmp", "a directory")] {
        spec.layers[0].layer_path = Some(path.into());
        assert_eq!(start(&spec), format!("cannot open layer file: {path}: it is {kind}, not a regular file"));
    }
}

/// The end of a cached blob is sent only after the whole blob was hashed, without packing it.
#[test]
fn ranges_of_cached_blobs_are_served_without_packing() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path().join("cache");
    let spec = fixture.build("zstd", &Packer::new(2).with_cache(Some(Cache::new(&directory))));
    let mut options = fixture.options("auto");
    options.content.cache = Some(Cache::new(&directory));
    let server = Server::start(vec![Image::new("some/image", "t", spec.clone()).unwrap()], options).unwrap();
    let layer = &spec.layers[0];
    for range in ["bytes=-1", "bytes=0-", "bytes=1000-", "bytes=-70000"] {
        let whole = get(&server, &blob(layer.digest)).body;
        assert_eq!(Digest::of(&whole), layer.digest);
        let part = ask(&server, "GET", &blob(layer.digest), &format!("Range: {range}\r\n"));
        assert!(part.is_whole() && whole.ends_with(&part.body), "{range}");
    }
    assert_eq!(server.counts().packings, 0);
}

#[test]
fn foreign_hosts_and_web_pages_are_refused() {
    let fixture = Fixture::new();
    let mut options = fixture.options("auto");
    options.hosts = vec!["host.docker.internal".into()];
    options.other_host_advice = "ask its user for another".into();
    let image = Image::new("some/image", "t", fixture.spec("zstd")).unwrap();
    let server = Server::start(vec![image], options).unwrap();
    let tags = "GET /v2/some/image/tags/list HTTP/1.1";
    for (head, expected) in [
        (format!("{tags}\r\nHost: localhost"), 200),
        (format!("{tags}\r\nHost: {}", server.address()), 200),
        (format!("{tags}\r\nHost: [::1]:5000"), 200),
        (format!("{tags}\r\nHost: host.docker.internal:5000"), 200),
        (format!("{tags}\r\nHost: localhost\r\nSec-Fetch-Site: none"), 200),
        ("GET /v2/some/image/tags/list HTTP/1.0".into(), 200),
        (format!("{tags}\r\nHost: evil.example\r\nOrigin: http://evil.example"), 403),
        (format!("{tags}\r\nHost: evil.example"), 403),
        (format!("{tags}\r\nHost: evil.example:{}", server.address().port()), 403),
        (format!("{tags}\r\nHost: 127.0.0.1.evil.example"), 403),
        (format!("{tags}\r\nHost: localhost\r\nOrigin: http://evil.example"), 403),
        (format!("{tags}\r\nHost: localhost\r\nOrigin: null"), 403),
        (format!("{tags}\r\nHost: localhost\r\nSec-Fetch-Site: cross-site"), 403),
        ("GET http://evil.example/v2/some/image/tags/list HTTP/1.1\r\nHost: localhost".into(), 403),
        ("GET /v2/some/image/tags/list HTTP/1.0\r\nHost: evil.example".into(), 403),
        (format!("{tags}\r\nX: y"), 400),
        (format!("{tags}\r\nHost: localhost\r\nHost: evil.example"), 400),
        (format!("{}\r\nHost: evil.example", tags.replace("GET", "HEAD")), 403),
        (format!("{}\r\nHost: evil.example", tags.replace("GET", "DELETE")), 403),
    ] {
        assert_eq!(status(&server, &head), expected, "{head}");
    }
    let refused = answer(&server, &format!("{tags}\r\nHost: evil.example:5000"));
    let message = r#"accepts the hosts localhost, 127.0.0.1, [::1], host.docker.internal, not \"evil.example:5000\"; ask its user for another"#;
    assert!(refused.contains(message), "{refused}");
    let refused = ask(&server, "GET", MANIFEST, "Origin: http://evil.example\r\n");
    assert_eq!((refused.status, refused.code()), (403, "DENIED".into()));
    assert_eq!(server.counts().packings, 0);
}

#[test]
fn referrers_are_always_empty() {
    let fixture = Fixture::new();
    let server = fixture.serve(&fixture.spec("zstd"), "auto");
    let digest = get(&server, MANIFEST).header("docker-content-digest").unwrap().to_owned();
    for digest in [&digest, &Digest::of(b"absent").to_string(), "sha512:00"] {
        let answer = get(&server, &format!("/v2/some/image/referrers/{digest}"));
        assert_eq!((answer.status, answer.header("oci-filters-applied")), (200, None));
        assert_eq!(answer.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
        let expected =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert_eq!(answer.body, expected.as_bytes());
        let head = ask(&server, "HEAD", &format!("/v2/some/image/referrers/{digest}"), "");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let filtered = get(&server, &format!("/v2/some/image/referrers/{digest}?artifactType=a/b"));
    assert_eq!((filtered.status, filtered.header("oci-filters-applied")), (200, Some("artifactType")));
    for (method, path, status, code) in [
        ("GET", "/v2/some/image/referrers/x".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", format!("/v2/other/referrers/{digest}"), 404, "NAME_UNKNOWN"),
        ("POST", format!("/v2/some/image/referrers/{digest}"), 405, "UNSUPPORTED"),
    ] {
        let answer = ask(&server, method, &path, OCI);
        assert_eq!((answer.status, answer.code()), (status, code.into()), "{method} {path}");
    }
}

/// A program of the same user may pass on what it reads, as a proxy or a forwarded port. So it needs the
/// secret too.
#[test]
fn private_registry_requires_its_secret_of_every_client() {
    let fixture = Fixture::new();
    let secret = Secret::new().unwrap();
    let options = Options { readers: Readers::User(secret.clone()), ..fixture.options("auto") };
    let spec = fixture.spec("zstd");
    let server = Server::start(vec![Image::new("some/image", "t", spec.clone()).unwrap()], options).unwrap();
    let with_secret = format!("Authorization: Basic {}\r\n", secret.basic());
    let layer = blob(spec.layers[0].digest);
    let read = ask(&server, "GET", &layer, &with_secret);
    assert_eq!(Digest::of(&read.body), spec.layers[0].digest);
    let wrong = format!("Authorization: Basic {}\r\n", Secret::new().unwrap().basic());
    for headers in ["", "Authorization: Basic bml4cGx5Og==\r\n", &wrong] {
        for path in ["/v2/", MANIFEST, &layer] {
            let without = ask(&server, "GET", path, headers);
            assert_eq!((without.status, without.code()), (401, "UNAUTHORIZED".into()), "{path} {headers}");
        }
    }
}

/// A zstd layer of a base image is converted once for clients that do not support zstd.
#[test]
fn zstd_base_layers_are_converted_for_clients_without_zstd() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("zstd");
    let zstd = get(&fixture.serve(&spec, "auto"), &blob(spec.layers[0].digest)).body;
    let file = fixture.directory.path().join("blob");
    fs::write(&file, &zstd).unwrap();
    let layer = &mut spec.layers[0];
    layer.paths.clear();
    (layer.layer_path, layer.compression) = (Some(file.display().to_string()), None);
    let server = fixture.serve(&spec, "auto");
    let old = format!("{OCI}User-Agent: docker/20.10.24+dfsg1 go/go1.19.8\r\n");
    let layer_for = |headers: &str| ask(&server, "GET", MANIFEST, headers).json()["layers"][0].clone();
    let new = layer_for(OCI);
    assert_eq!(new["digest"], spec.layers[0].digest.to_string());
    for headers in [&old[..], "", &old] {
        let layer = layer_for(headers);
        assert!(layer["mediaType"].as_str().unwrap().ends_with("tar+gzip"), "{layer}");
        let path = blob(layer["digest"].as_str().unwrap());
        let whole = get(&server, &path).body;
        assert_eq!(layer["digest"], Digest::of(&whole).to_string());
        assert_eq!((&layer["size"], &whole[..2]), (&whole.len().into(), &[0x1f, 0x8b][..]));
        let rest = ask(&server, "GET", &path, "Range: bytes=1000-\r\n");
        assert_eq!(rest.body, &whole[1000..]);
    }
    assert_eq!(get(&server, &blob(spec.layers[0].digest)).body, zstd);
    assert!(nothing_in(&fixture.scratch()), "the file of the converted layer has no name");
    // A file with other content is not served.
    spec.layers[0].diff_id = spec.layers[1].diff_id;
    let server = fixture.serve(&spec, "auto");
    let refused = ask(&server, "GET", MANIFEST, &old);
    assert_eq!(refused.status, 500, "{}", refused.head);
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&file.display().to_string()) && message.contains("its content is"), "{message}");
}

/// A client that reads the end of a cached blob gets the right bytes even if the cache loses or changes
/// proven data.
#[test]
fn proven_blob_that_the_cache_loses_is_packed() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path().join("cache");
    let build = || fixture.build("zstd", &Packer::new(2).with_cache(Some(Cache::new(&directory))));
    let spec = build();
    let segments = || {
        let directories = fs::read_dir(directory.join("segments")).unwrap();
        directories
            .flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
    };
    let layer = &spec.layers[0];
    let range = "Range: bytes=70000-\r\n";
    for is_lost in [false, true] {
        // The last server's packed layer may not be in the cache yet.
        let _ = fs::remove_dir_all(&directory);
        assert_eq!(build(), spec);
        let mut options = fixture.options("auto");
        options.content.cache = Some(Cache::new(&directory));
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        let server = Server::start(vec![image], options).unwrap();
        let whole = get(&server, &blob(layer.digest)).body;
        assert_eq!(ask(&server, "GET", &blob(layer.digest), range).body, &whole[70_000..]);
        assert_eq!(server.counts().packings, 0);
        for segment in segments() {
            if is_lost {
                fs::remove_file(segment).unwrap();
            } else {
                let mut bytes = fs::read(&segment).unwrap();
                bytes[200_000] ^= 1;
                fs::write(&segment, bytes).unwrap();
            }
        }
        for range in [range, "Range: bytes=150000-\r\n", "Range: bytes=199000-201000\r\n", ""] {
            let answer = ask(&server, "GET", &blob(layer.digest), range);
            assert!(answer.is_whole(), "{is_lost} {range}");
            match range.contains("201000") {
                true => assert_eq!(answer.body, &whole[199_000..=201_000]),
                false => assert!(whole.ends_with(&answer.body), "{is_lost} {range}"),
            }
        }
    }
}

/// After a blob is proven, no wrong byte is sent, even in a part without the end.
#[test]
fn parts_of_a_proven_file_are_verified() {
    let fixture = Fixture::new();
    let bytes = noise(5, 1_000_000);
    let (spec, file) = base(&fixture, &bytes);
    let server = fixture.serve(&spec, "none");
    let path = blob(spec.layers[0].digest);
    let part = |range: &str| ask(&server, "GET", &path, &format!("Range: bytes={range}\r\n"));
    // Wait until the file no longer counts as recently written.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(part("400000-").body, &bytes[400_000..]);
    let mut wrong = bytes.clone();
    wrong[300_000] ^= 1;
    fs::write(&file, &wrong).unwrap();
    for range in ["300000-300999", "400000-", "-1", "0-", "290000-310000"] {
        let answer = part(range);
        assert!(!answer.is_whole() && (range == "0-" || answer.body.is_empty()), "{range}");
    }
    assert_eq!(part("10-19").body, &bytes[10..20]);
    fs::write(&file, &bytes).unwrap();
    for range in ["400000-", "-1", "0-"] {
        let answer = part(range);
        assert!(answer.is_whole() && bytes.ends_with(&answer.body), "{range}");
    }
}

/// A client that reads nothing is disconnected when others need the room.
#[test]
fn stalled_clients_are_disconnected_when_the_limit_is_reached() {
    let fixture = Fixture::new();
    let (spec, _) = base(&fixture, &noise(5, 20_000_000));
    let server = fixture.serve(&spec, "none");
    let path = blob(spec.layers[0].digest);
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let stalled: Vec<TcpStream> = (0..300)
        .map_while(|_| {
            let mut stream = TcpStream::connect(server.address()).ok()?;
            stream.write_all(head.as_bytes()).ok()?;
            Some(stream)
        })
        .collect();
    assert!(stalled.len() > 100, "{}", stalled.len());
    let begin = Instant::now();
    assert_eq!(Digest::of(&get(&server, &path).body), spec.layers[0].digest);
    // Generous, for a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}
