//! Packing on demand.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;

use nixply_oci::Digest;
use nixply_packer::ImageSpec;
use serde_json::json;

use super::fixture::{Fixture, MANIFEST, ask, blob, get, noise, nothing_in};
use crate::content::Image;
use crate::server::Server;

#[test]
fn concurrent_readers_share_one_packing() {
    let fixture = Fixture::new();
    let spec = fixture.spec("gzip");
    let server = fixture.serve(&spec, "auto");
    let (digest, size) = (spec.layers[0].digest, spec.layers[0].size);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        let reader = |at: u64| {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                barrier.wait();
                // Half of them request a part.
                let from = if at.is_multiple_of(2) { 0 } else { size / 8 * at };
                let range = format!("Range: bytes={from}-\r\n");
                (from, ask(server, "GET", &blob(digest), &range).body)
            })
        };
        let readers: Vec<_> = (0..8).map(reader).collect();
        let answers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        let whole = &answers[0].1;
        assert_eq!(Digest::of(whole), digest);
        assert!(answers.iter().all(|(from, body)| body == &whole[*from as usize..]));
    });
    assert_eq!(server.counts().packings, 1);
}

/// The layer is packed to the end: clients that go away often return.
#[test]
fn packing_continues_when_the_client_goes_away() {
    let fixture = Fixture::new();
    fs::write(fixture.real("a").join("more"), noise(3, 8_000_000)).unwrap();
    let spec = fixture.spec("zstd:12");
    let server = fixture.serve(&spec, "auto");
    let layer = &spec.layers[0];
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", blob(layer.digest));
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    let counts = server.stop();
    assert_eq!(counts.packings, 1);
    assert!(counts.bytes() >= layer.size + 500, "{counts:?}");
}

#[test]
fn shared_layers_are_packed_once() {
    let fixture = Fixture::new();
    let spec = fixture.spec("none");
    let mut upper = spec.clone();
    upper.layers.truncate(1);
    let images = vec![Image::new("a", "t", spec).unwrap(), Image::new("a", "u", upper).unwrap()];
    let server = Server::start(images, fixture.options("auto")).unwrap();
    std::thread::scope(|scope| {
        let server = &server;
        for tag in ["t", "u", "t", "u"] {
            scope.spawn(move || assert_eq!(get(server, &format!("/v2/a/manifests/{tag}")).status, 200));
        }
    });
    assert_eq!(server.counts().packings, 2);
    let tags = get(&server, "/v2/a/tags/list");
    assert_eq!(tags.json(), json!({"name": "a", "tags": ["t", "u"]}));
    let page = get(&server, "/v2/a/tags/list?n=1");
    assert_eq!(page.json()["tags"], json!(["t"]));
    assert_eq!(page.header("link"), Some("</v2/a/tags/list?n=1&last=t>; rel=\"next\""));
    let page = get(&server, "/v2/a/tags/list?n=1&last=t");
    assert_eq!((&page.json()["tags"], page.header("link")), (&json!(["u"]), None));
}

#[test]
fn wrong_blob_is_never_served_completely() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd");
    let server = fixture.serve(&spec, "auto");
    let file = fixture.real("a").join("bin/data");
    let right = fs::read(&file).unwrap();
    let digest = spec.layers[0].digest;
    // The file in the store is changed, longer, empty or missing.
    let longer = [noise(9, 3_000_000), right.clone()].concat();
    for wrong in [Some(noise(9, 3_000_000)), Some(longer), Some(vec![]), None] {
        match wrong {
            Some(wrong) => fs::write(&file, wrong).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let answer = get(&server, &blob(digest));
        assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
        let reports = std::mem::take(&mut *fixture.reports.lock().unwrap());
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("layer 1 no longer has the content"), "{reports:?}");
        assert!(reports[0].ends_with(&Fixture::path("a")), "{reports:?}");
    }
    // After a repair the layer is served without a restart. The other layer was right all the time.
    fs::write(&file, &right).unwrap();
    for layer in &spec.layers {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
    fs::remove_dir_all(fixture.real("b")).unwrap();
    let server = fixture.serve(&as_plain_tar(&spec), "auto");
    let refused = get(&server, MANIFEST);
    assert_eq!((refused.status, refused.code()), (500, "UNKNOWN".into()));
    assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains("store path does not exist"));
}

/// The same image as plain tar.
fn as_plain_tar(spec: &ImageSpec) -> ImageSpec {
    let mut spec = spec.clone();
    for layer in &mut spec.layers {
        layer.compression = None;
        layer.digest = layer.diff_id.as_digest();
    }
    spec
}

#[test]
fn stopping_ends_packing_and_leaves_no_files() {
    let fixture = Fixture::new();
    // Large enough for the server to stop in the middle.
    fs::write(fixture.real("a").join("more"), noise(3, 40_000_000)).unwrap();
    let spec = fixture.spec("zstd:1");
    let server = fixture.serve(&spec, "zstd:12");
    let address = server.address();
    let reader = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("GET {MANIFEST} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    while server.counts().packings == 0 {
        std::thread::yield_now();
    }
    let begin = std::time::Instant::now();
    let counts = server.stop();
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert_eq!(reader.join().unwrap(), b"");
    assert_eq!(counts.bytes(), 0);
    assert!(nothing_in(&fixture.scratch()));
    assert!(fixture.reports.lock().unwrap().is_empty());
    assert!(TcpStream::connect(address).is_err());
}
