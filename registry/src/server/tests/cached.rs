//! Layers that are served from the cache.

use std::fs;

use nixply_oci::{DiffId, Digest};
use nixply_packer::{Cache, ImageSpec, Packer};

use super::fixture::{Fixture, MANIFEST, ask, blob, get};
use crate::content::Image;
use crate::server::Server;

/// The server uses the digests and the bytes of an earlier packing.
#[test]
fn digests_and_bytes_come_from_the_cache() {
    let fixture = Fixture::new();
    let cache = fixture.directory.path().join("cache");
    let serve = || {
        let image = Image::new("some/image", "t", fixture.spec("none")).unwrap();
        let mut options = fixture.options("zstd");
        options.content.cache = Some(Cache::new(&cache));
        Server::start(vec![image], options).unwrap()
    };
    // The frontend that made the spec recorded the paths' archive hashes.
    fixture.build("none", &Packer::new(2).with_cache(Some(Cache::new(&cache))));
    let server = serve();
    let manifest = get(&server, MANIFEST);
    assert_eq!((manifest.status, server.counts().packings), (200, 2));
    let server = serve();
    // The server does not read the store.
    fs::rename(fixture.store().real_dir, fixture.directory.path().join("away")).unwrap();
    assert_eq!(get(&server, MANIFEST).body, manifest.body);
    assert_eq!(server.counts().packings, 0);
    // Nor does it pack or write anywhere: the bytes come from the cache.
    fs::remove_dir(fixture.scratch()).unwrap();
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

/// A server may run for weeks, so the cache must keep its limit meanwhile.
#[test]
fn cache_is_trimmed_while_the_server_runs() {
    let fixture = Fixture::new();
    let cache = Cache::new(fixture.directory.path().join("cache")).with_limit(2_000_000);
    let specs = ["gzip:1", "gzip:2", "gzip:3", "zstd:1", "zstd:2"]
        .map(|codec| fixture.build(codec, &Packer::new(2).with_cache(Some(cache.clone()))));
    // The cache still knows the layers' contents, so packed segments are kept.
    fs::remove_dir_all(cache.directory().join("segments")).unwrap();
    let image =
        |(at, spec): (usize, &ImageSpec)| Image::new("some/image", &format!("t{at}"), spec.clone()).unwrap();
    let mut options = fixture.options("auto");
    options.content.cache = Some(cache.clone());
    let server = Server::start(specs.iter().enumerate().map(image).collect(), options).unwrap();
    for layer in specs.iter().flat_map(|spec| &spec.layers) {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
    let bytes = || cache.stat().unwrap().iter().map(|stat| stat.bytes).sum::<u64>();
    let begin = std::time::Instant::now();
    // A client gets its layer shortly before the cache is trimmed.
    while bytes() > 2_100_000 {
        assert!(begin.elapsed().as_secs() < 20, "{} bytes", bytes());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(server);
}

/// The cache's entry for a layer's key may be intact and still differ from the spec.
#[test]
fn wrong_cached_blob_is_never_served_completely() {
    let fixture = Fixture::new();
    let cache = Some(Cache::new(fixture.directory.path().join("cache")));
    let mut spec = fixture.build("zstd", &Packer::new(2).with_cache(cache.clone()));
    let right = std::mem::replace(&mut spec.layers[0].digest, Digest::of(b"another blob of the same size"));
    let serve = |spec: &ImageSpec| {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        let mut options = fixture.options("auto");
        options.content.cache = cache.clone();
        Server::start(vec![image], options).unwrap()
    };
    // The same holds for parts: no client gets the last one. The others are served until the mismatch is
    // found.
    let (server, digest, size) = (serve(&spec), spec.layers[0].digest, spec.layers[0].size);
    let part = |from, to| ask(&server, "GET", &blob(digest), &format!("Range: bytes={from}-{to}\r\n"));
    assert!(!part(size / 2, size - 1).is_whole());
    fixture.reports.lock().unwrap().clear();
    let mut again = fixture.build("zstd", &Packer::new(2).with_cache(cache.clone()));
    again.layers[0].digest = digest;
    let answer = get(&serve(&again), &blob(digest));
    assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
    let reports = std::mem::take(&mut *fixture.reports.lock().unwrap());
    assert!(
        reports.len() == 1 && reports[0].contains("another version of nixply made the spec"),
        "{reports:?}"
    );
    spec.layers[0].digest = right;
    assert_eq!(Digest::of(&get(&serve(&spec), &blob(right)).body), right);
}

/// The server does not serve a layer whose digests come only from an imported spec: it packs the layer and compares.
#[test]
fn imported_digests_are_proven_before_serving() {
    let fixture = Fixture::new();
    let cache = Some(Cache::new(fixture.directory.path().join("cache")));
    let packer = Packer::new(2).with_cache(cache.clone());
    let truth = fixture.build("zstd", &packer);
    fs::remove_dir_all(fixture.directory.path().join("cache/layers")).unwrap();
    let mut lie = truth.clone();
    lie.layers[0].diff_id = DiffId::of(b"not its tar");
    cache.as_ref().unwrap().import(&lie).unwrap();
    let believed = fixture.build("zstd", &packer);
    assert_eq!(believed, lie);
    let serve = |spec: &ImageSpec| {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        let mut options = fixture.options("auto");
        options.content.cache = cache.clone();
        Server::start(vec![image], options).unwrap()
    };
    let server = serve(&believed);
    // The digest is right, but clients that unpack the image would refuse it.
    let answer = get(&server, &blob(lie.layers[0].digest));
    assert!(answer.status == 200 && !answer.is_whole(), "{}", answer.head);
    let reports = std::mem::take(&mut *fixture.reports.lock().unwrap());
    assert!(reports.len() == 1 && reports[0].contains("was imported from a wrong spec"), "{reports:?}");
    assert_eq!(fixture.build("zstd", &packer), truth);
    let server = serve(&truth);
    for layer in &truth.layers {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
}

/// A damaged or missing segment is packed again.
#[test]
fn lost_segments_are_packed_from_the_store() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path().join("cache");
    let spec = fixture.build("zstd", &Packer::new(2).with_cache(Some(Cache::new(&directory))));
    let segments = || {
        let directories = fs::read_dir(directory.join("segments")).unwrap();
        let files = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
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
        let mut options = fixture.options("auto");
        options.content.cache = Some(Cache::new(&directory));
        let server = Server::start(vec![image], options).unwrap();
        for layer in &spec.layers {
            assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest, "{what}");
        }
        assert_eq!(server.counts().packings, 1, "{what}");
        assert_eq!(segments().iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>(), kept, "{what}");
    }
}
