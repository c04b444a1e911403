//! The server as its clients see it, over a socket. The store is a folder of the test's own; no Nix is needed.

mod observing;
mod readers;
mod world;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;

use nixply_packer::cache::Cache;
use nixply_packer::digest::{DiffId, Digest};
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::image::{go_json, oci};
use nixply_packer::pack::{Control, Packer};
use serde_json::json;

use self::world::{MANIFEST, OCI, World, ask, blob, get, noise, nothing_in};
use super::{Compression, Image, Options, Server};
use crate::error::Error;

#[test]
fn with_known_digests_only_what_is_read_is_packed() {
    let world = World::new();
    for codec in ["none", "gzip", "zstd:1"] {
        let spec = world.spec(codec);
        let server = world.serve(&spec, if codec == "none" { "none" } else { "auto" });
        let manifest = get(&server, MANIFEST);
        let expected = go_json::compact(&oci::manifest_of(&spec));
        assert_eq!((manifest.status, &manifest.body), (200, &expected), "{codec}");
        assert_eq!(manifest.header("content-type"), Some(oci::MANIFEST));
        let digest = Digest::of(&expected).to_string();
        assert_eq!(manifest.header("docker-content-digest"), Some(&digest[..]));
        let by_digest = get(&server, &format!("/v2/some/image/manifests/{digest}"));
        assert_eq!(by_digest.body, expected);
        let head = ask(&server, "HEAD", MANIFEST, OCI);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(&expected.len().to_string()[..]));

        let config = get(&server, &blob(Digest::of(&oci::config(&spec))));
        assert_eq!(config.body, oci::config(&spec));
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
        assert_eq!(world.reports.lock().unwrap()[..], [""; 0]);
    }
}

#[test]
fn unknown_digests_are_found_out_once_for_each_codec() {
    let world = World::new();
    let spec = world.spec("none");
    let server = world.serve(&spec, "auto");
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
    // Another server knows it by its digest, too, though nobody has asked for the tag.
    let server = world.serve(&spec, "auto");
    assert_eq!(get(&server, &format!("/v2/some/image/manifests/{}", digests[0])).status, 200);
    assert_eq!(server.counts().packings, 2);
}

/// What an earlier packing has found out is not found out again, and what it has made is not made again.
#[test]
fn the_cache_knows_digests_and_bytes() {
    let world = World::new();
    let cache = world.folder.path().join("cache");
    let serve = || {
        let image = Image::new("some/image", "t", world.spec("none")).unwrap();
        let options = Options { cache: Some(Cache::new(&cache)), ..world.options("zstd") };
        Server::start(vec![image], options).unwrap()
    };
    // The door that made the spec has remembered the paths' archive hashes.
    world.build("none", &Packer::new(2).with_cache(Some(Cache::new(&cache))));
    let server = serve();
    let manifest = get(&server, MANIFEST);
    assert_eq!((manifest.status, server.counts().packings), (200, 2));
    let server = serve();
    // Nothing of the store is read.
    fs::rename(world.store().real_dir, world.folder.path().join("away")).unwrap();
    assert_eq!(get(&server, MANIFEST).body, manifest.body);
    assert_eq!(server.counts().packings, 0);
    // Nor is anything packed or written elsewhere: the bytes come out of the cache.
    fs::remove_dir(world.scratch()).unwrap();
    for layer in manifest.json()["layers"].as_array().unwrap() {
        let (digest, size) = (layer["digest"].as_str().unwrap(), layer["size"].as_u64().unwrap());
        let whole = get(&server, &blob(digest)).body;
        assert_eq!((Digest::of(&whole).to_string(), whole.len() as u64), (digest.to_owned(), size));
        for (from, to) in [(0, 0), (1, 2), (0, size), (size / 2, size / 2 + 1000), (size - 1, size)] {
            let range = format!("Range: bytes={from}-{}\r\n", to.max(from + 1) - 1);
            let part = ask(&server, "GET", &blob(digest), &range);
            assert_eq!(part.body, &whole[from as usize..to.max(from + 1) as usize], "{range}");
        }
    }
    assert_eq!(server.counts().packings, 0);
}

/// A server may run for weeks.
#[test]
fn the_cache_keeps_its_limit_while_the_server_runs() {
    let world = World::new();
    let cache = Cache::new(world.folder.path().join("cache")).with_limit(2_000_000);
    let specs = ["gzip:1", "gzip:2", "gzip:3", "zstd:1", "zstd:2"]
        .map(|codec| world.build(codec, &Packer::new(2).with_cache(Some(cache.clone()))));
    // What is in the layers is known still, so what is packed is kept.
    fs::remove_dir_all(cache.folder().join("segments")).unwrap();
    let image =
        |(at, spec): (usize, &ImageSpec)| Image::new("some/image", &format!("t{at}"), spec.clone()).unwrap();
    let options = Options { cache: Some(cache.clone()), ..world.options("auto") };
    let server = Server::start(specs.iter().enumerate().map(image).collect(), options).unwrap();
    for layer in specs.iter().flat_map(|spec| &spec.layers) {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
    let bytes = || cache.stat().unwrap().iter().map(|stat| stat.bytes).sum::<u64>();
    let begin = std::time::Instant::now();
    // A reader has its layer a little before the cache is looked after.
    while bytes() > 2_100_000 {
        assert!(begin.elapsed().as_secs() < 20, "{} bytes", bytes());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(server);
}

/// What the cache has under a layer's key may be right in itself and not what the spec says.
#[test]
fn a_cached_blob_that_is_not_what_it_should_be_is_never_whole() {
    let world = World::new();
    let cache = Some(Cache::new(world.folder.path().join("cache")));
    let mut spec = world.build("zstd", &Packer::new(2).with_cache(cache.clone()));
    let right = std::mem::replace(&mut spec.layers[0].digest, Digest::of(b"another blob of the same size"));
    let serve = |spec: &ImageSpec| {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        Server::start(vec![image], Options { cache: cache.clone(), ..world.options("auto") }).unwrap()
    };
    // In parts, too: nobody gets the last one, and the others as long as nobody has found it out.
    let (server, digest, size) = (serve(&spec), spec.layers[0].digest, spec.layers[0].size);
    let part = |from, to| ask(&server, "GET", &blob(digest), &format!("Range: bytes={from}-{to}\r\n"));
    assert!(!part(size / 2, size - 1).is_whole());
    world.reports.lock().unwrap().clear();
    let mut again = world.build("zstd", &Packer::new(2).with_cache(cache.clone()));
    again.layers[0].digest = digest;
    let answer = get(&serve(&again), &blob(digest));
    assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
    let reports = std::mem::take(&mut *world.reports.lock().unwrap());
    assert!(
        reports.len() == 1 && reports[0].contains("another version of nixply made the spec"),
        "{reports:?}"
    );
    spec.layers[0].digest = right;
    assert_eq!(Digest::of(&get(&serve(&spec), &blob(right)).body), right);
}

/// What a spec elsewhere has said of a layer is no reason to give it away.
#[test]
fn a_cached_blob_of_which_a_spec_alone_tells_is_proven_first() {
    let world = World::new();
    let cache = Some(Cache::new(world.folder.path().join("cache")));
    let packer = Packer::new(2).with_cache(cache.clone());
    let truth = world.build("zstd", &packer);
    fs::remove_dir_all(world.folder.path().join("cache/layers")).unwrap();
    let mut lie = truth.clone();
    lie.layers[0].diff_id = DiffId::of(b"not its tar");
    cache.as_ref().unwrap().import(&lie).unwrap();
    let believed = world.build("zstd", &packer);
    assert_eq!(believed, lie);
    let serve = |spec: &ImageSpec| {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        Server::start(vec![image], Options { cache: cache.clone(), ..world.options("auto") }).unwrap()
    };
    let server = serve(&believed);
    // Its digest is right; its image would be refused by whoever unpacks it.
    let answer = get(&server, &blob(lie.layers[0].digest));
    assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
    let reports = std::mem::take(&mut *world.reports.lock().unwrap());
    assert!(reports.len() == 1 && reports[0].contains("was wrong, which is forgotten now"), "{reports:?}");
    assert_eq!(world.build("zstd", &packer), truth);
    let server = serve(&truth);
    for layer in &truth.layers {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
}

/// A segment that is damaged or gone is packed again.
#[test]
fn what_the_cache_has_lost_is_packed_from_the_store() {
    let world = World::new();
    let folder = world.folder.path().join("cache");
    let spec = world.build("zstd", &Packer::new(2).with_cache(Some(Cache::new(&folder))));
    let segments = || {
        let folders = fs::read_dir(folder.join("segments")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort_by_key(|file| fs::metadata(file).unwrap().len());
        files
    };
    let whole = segments();
    assert_eq!(whole.len(), 2);
    let kept: Vec<Vec<u8>> = whole.iter().map(|file| fs::read(file).unwrap()).collect();
    let flipped = |at: usize| {
        let mut bytes = kept[0].clone();
        bytes[at] ^= 1;
        move |file: &std::path::Path| fs::write(file, &bytes).unwrap()
    };
    let frame = flipped(100_000);
    let index = flipped(kept[0].len() - 30);
    let gone = |file: &std::path::Path| fs::remove_file(file).unwrap();
    for (what, damage) in [("frame", &frame as &dyn Fn(&std::path::Path)), ("index", &index), ("gone", &gone)]
    {
        damage(&whole[0]);
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        let options = Options { cache: Some(Cache::new(&folder)), ..world.options("auto") };
        let server = Server::start(vec![image], options).unwrap();
        for layer in &spec.layers {
            assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest, "{what}");
        }
        assert_eq!(server.counts().packings, 1, "{what}");
        assert_eq!(segments().iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>(), kept, "{what}");
    }
}

#[test]
fn a_named_codec_is_for_everyone_and_the_same_as_a_layouts() {
    let world = World::new();
    let (plain, zstd) = (world.spec("none"), world.spec("zstd"));
    for (spec, codec) in [(&plain, "zstd"), (&zstd, "gzip:1"), (&zstd, "none")] {
        let server = world.serve(spec, codec);
        let manifest = ask(&server, "GET", MANIFEST, "User-Agent: docker/19.03.1\r\n");
        let folder = tempfile::tempdir().unwrap();
        let stop = Default::default();
        let written = nixply_packer::image::layout::write(
            spec,
            &world.store(),
            &folder.path().join("layout"),
            "t",
            Some(codec.parse().unwrap()),
            &Packer::new(2),
            &Control::new(&stop, &()),
        );
        assert_eq!(Digest::of(&manifest.body), written.unwrap().manifest, "{codec}");
        assert_eq!(server.counts().packings, 2);
    }
}

#[test]
fn ranges() {
    let world = World::new();
    let spec = world.spec("zstd");
    let server = world.serve(&spec, "auto");
    let (digest, size) = (spec.layers[0].digest, spec.layers[0].size);
    let range = |range: &str| ask(&server, "GET", &blob(digest), &format!("Range: bytes={range}\r\n"));
    // The end first: it is waited for.
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
    // A range of another blob, and a range of one that the asker has.
    let other = ask(&server, "GET", &blob(digest), "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n");
    assert_eq!((other.status, &other.body), (200, &whole));
    let same = format!("Range: bytes=0-1\r\nIf-Range: \"{digest}\"\r\n");
    assert_eq!(ask(&server, "GET", &blob(digest), &same).status, 206);
    let known = format!("If-None-Match: \"{digest}\"\r\n");
    let unchanged = ask(&server, "GET", &blob(digest), &known);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let head = ask(&server, "HEAD", &blob(digest), "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, Some(&size.to_string()[..])));
    let config = Digest::of(&oci::config(&spec));
    let part = ask(&server, "GET", &blob(config), "Range: bytes=1-4\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &oci::config(&spec)[1..5]));
    assert_eq!(server.counts().packings, 1);
}

#[test]
fn many_readers_one_packing() {
    let world = World::new();
    let spec = world.spec("gzip");
    let server = world.serve(&spec, "auto");
    let (digest, size) = (spec.layers[0].digest, spec.layers[0].size);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        let reader = |at: u64| {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                barrier.wait();
                // Half of them want a part.
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

/// It is packed to the end: whoever goes away often comes back.
#[test]
fn a_reader_that_goes_away_disturbs_nobody() {
    let world = World::new();
    fs::write(world.real("a").join("more"), noise(3, 8_000_000)).unwrap();
    let spec = world.spec("zstd:12");
    let server = world.serve(&spec, "auto");
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
fn images_share_their_layers() {
    let world = World::new();
    let spec = world.spec("none");
    let mut upper = spec.clone();
    upper.layers.truncate(1);
    let images = vec![Image::new("a", "t", spec).unwrap(), Image::new("a", "u", upper).unwrap()];
    let server = Server::start(images, world.options("auto")).unwrap();
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

/// RFC 3986, 2.1 and 6.2.2.2: whoever writes more characters so than they have to means the same place.
#[test]
fn percent_encoded_paths_name_the_same() {
    let world = World::new();
    let spec = world.spec("zstd");
    let server = world.serve(&spec, "auto");
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
fn what_is_not_there_is_refused_as_the_specification_says() {
    let world = World::new();
    let server = world.serve(&world.spec("zstd"), "auto");
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
    assert!(world.reports.lock().unwrap().is_empty());
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_never_whole() {
    let world = World::new();
    let spec = world.spec("zstd");
    let server = world.serve(&spec, "auto");
    let file = world.real("a").join("bin/data");
    let right = fs::read(&file).unwrap();
    let digest = spec.layers[0].digest;
    // Changed, longer, shorter, gone.
    let longer = [noise(9, 3_000_000), right.clone()].concat();
    for wrong in [Some(noise(9, 3_000_000)), Some(longer), Some(vec![]), None] {
        match wrong {
            Some(wrong) => fs::write(&file, wrong).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let answer = get(&server, &blob(digest));
        assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
        let reports = std::mem::take(&mut *world.reports.lock().unwrap());
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("layer 1 no longer has the content"), "{reports:?}");
        assert!(reports[0].ends_with(&World::path("a")), "{reports:?}");
    }
    // Put right, it is served without a restart; another layer was right all the time.
    fs::write(&file, &right).unwrap();
    for layer in &spec.layers {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
    fs::remove_dir_all(world.real("b")).unwrap();
    let server = world.serve(&as_plain_tar(&spec), "auto");
    let refused = get(&server, MANIFEST);
    assert_eq!((refused.status, refused.code()), (500, "UNKNOWN".into()));
    assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains("store path is missing"));
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

/// nix2container's base images: their layers are files, and may have no size (its #207).
#[test]
fn base_layers_are_their_files() {
    let world = World::new();
    let mut spec = world.spec("zstd");
    let server = world.serve(&spec, "auto");
    let bytes = get(&server, &blob(spec.layers[0].digest)).body;
    let file = world.folder.path().join("blob");
    fs::write(&file, &bytes).unwrap();
    let base = &mut spec.layers[0];
    (base.layer_path, base.size, base.compression) = (Some(file.display().to_string()), 0, None);
    base.paths.clear();
    let digest = base.digest;
    let server = world.serve(&spec, "none");
    let layers = get(&server, MANIFEST).json()["layers"].clone();
    assert_eq!(layers[0]["size"], bytes.len());
    assert!(layers[0]["mediaType"].as_str().unwrap().ends_with("zstd"));
    assert!(layers[1]["mediaType"].as_str().unwrap().ends_with("tar"));
    for _ in 0..2 {
        assert_eq!(get(&server, &blob(digest)).body, bytes);
    }
    assert_eq!(ask(&server, "GET", &blob(digest), "Range: bytes=5-\r\n").body, &bytes[5..]);
    fs::write(&file, noise(7, bytes.len())).unwrap();
    let server = world.serve(&spec, "none");
    assert!(!get(&server, &blob(digest)).is_whole());
    let report = world.reports.lock().unwrap().join("\n");
    assert!(report.contains("blob does not have its digest"), "{report}");
    assert!(report.ends_with(&file.display().to_string()), "{report}");
    fs::remove_file(&file).unwrap();
    let again = Image::new("a", "t", spec).unwrap();
    assert!(matches!(Server::start(vec![again], world.options("auto")), Err(Error::Packer(_))));
}

#[test]
fn stopping_ends_packing_and_leaves_nothing() {
    let world = World::new();
    // Slow enough to be in the middle of it.
    fs::write(world.real("a").join("more"), noise(3, 40_000_000)).unwrap();
    let spec = world.spec("zstd:1");
    let server = world.serve(&spec, "zstd:12");
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
    assert!(nothing_in(&world.scratch()));
    assert!(world.reports.lock().unwrap().is_empty());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let world = World::new();
    let spec = world.spec("zstd");
    let start = |change: &dyn Fn(&mut Options), names: &[&str]| {
        let mut options = world.options("auto");
        change(&mut options);
        let image = |name: &&str| Image::new(name, "t", spec.clone()).unwrap();
        let error =
            Server::start(names.iter().map(image).collect(), options).err().map(|error| error.chain());
        error.unwrap_or_default()
    };
    let anywhere = |options: &mut Options| options.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(&anywhere, &["a"]);
    assert!(error.starts_with("0.0.0.0:0 can be reached from other machines"), "{error}");
    assert!(error.contains("127.0.0.1:0") && error.contains("--allow-remote"), "{error}");
    let allowed = |options: &mut Options| {
        anywhere(options);
        options.allow_remote = true;
    };
    assert_eq!(start(&allowed, &["a"]), "");
    assert!(start(&|_| {}, &["a", "a"]).starts_with("two images are called a:t;"));
    let error = start(&|options| options.scratch = "/nonexistent".into(), &["a"]);
    assert!(error.starts_with("cannot keep packed layers in the folder /nonexistent: "), "{error}");
    let taken = world.serve(&spec, "auto");
    let error = start(&|options| options.listen = taken.address(), &["a"]);
    assert!(error.starts_with(&format!("cannot listen on {}; name another", taken.address())), "{error}");
    assert!(matches!(Image::new("localhost:5000/a", "t", spec.clone()), Err(Error::Host(_))));
    for (name, tag) in [("a b", "t"), ("a", "-t")] {
        assert!(matches!(Image::new(name, tag, spec.clone()), Err(Error::Packer(_))));
    }
    assert_eq!(Compression::default().to_string(), "auto");
}
