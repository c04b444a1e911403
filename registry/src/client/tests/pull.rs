//! Reading images: broken connections, wrong contents, and the directory that is written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use nixply_oci::{Digest, Platform};
use sha2::{Digest as _, Sha256};

use super::super::{Reader, Reference, RemoteImage, Version};
use super::fake::{Act, Fake, Got, Instead};
use super::{client, push};
use crate::error::{Error, Result};
use crate::server::tests::fixture::Fixture;

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn reader(fake: &Fake) -> Reader {
    reader_at(fake.address)
}

fn reader_at(address: SocketAddr) -> Reader {
    let reference: Reference = format!("{address}/team/app:t").parse().unwrap();
    client(Arc::new(())).reader(&reference.repository).unwrap()
}

fn image(reader: &Reader) -> RemoteImage {
    reader.image(&Version::Tag("t".into()), &amd64()).unwrap()
}

fn pull(reader: &Reader, dir: &Path) -> Result<u64> {
    let read = AtomicU64::new(0);
    reader.pull(&image(reader), dir, &|bytes| _ = read.fetch_add(bytes, Ordering::Relaxed))?;
    Ok(read.into_inner())
}

/// Returns the names and contents of a directory, sorted.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_pulled_image_is_the_directory_of_skopeo_and_its_hash_needs_no_files() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("gzip:1");
    push(&fixture, &spec, &fake, "t").unwrap();
    let (reader, directory) = (reader(&fake), tempfile::tempdir().unwrap());
    let dir = directory.path().join("image");
    let read = pull(&reader, &dir).unwrap();

    let (contents, found) = (fake.contents("team/app"), files(&dir));
    let mut expected = vec![
        ("manifest.json".to_owned(), fake.manifest("team/app", "t").to_vec()),
        ("version".into(), b"Directory Transport Version: 1.1\n".to_vec()),
    ];
    expected.extend(contents.iter().map(|(digest, content)| (digest.hex(), content.to_vec())));
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(read, contents.values().map(|content| content.len() as u64).sum::<u64>());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary directory is left");
}

/// Starts a proxy that closes its nth connection, counted from 1, when that has carried this many bytes to the client.
fn cutting(to: SocketAddr, limit: impl Fn(usize) -> u64 + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (at, client) in listener.incoming().enumerate() {
            let (client, limit) = (client.unwrap(), limit(at + 1));
            let server = TcpStream::connect(to).unwrap();
            let (mut requests, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut requests, &mut to_server));
            thread::spawn(move || {
                let _ = io::copy(&mut (&server).take(limit), &mut &client);
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            });
        }
    });
    address
}

/// Returns the largest blob, and the ranges of the requests for it.
fn largest(fake: &Fake) -> (Bytes, Vec<Option<String>>) {
    let contents = fake.contents("team/app");
    let largest = contents.values().max_by_key(|content| content.len()).unwrap().clone();
    let state = fake.state.lock().unwrap();
    let of_blob = |got: &&Got| got.line == format!("GET /v2/team/app/blobs/{}", Digest::of(&largest));
    let ranges = state.requests.iter().filter(of_blob).map(|got| got.range.clone()).collect();
    (largest, ranges)
}

#[test]
fn a_broken_connection_is_continued_at_its_last_byte() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    push(&fixture, &fixture.spec("none"), &fake, "t").unwrap();
    let (content, _) = largest(&fake);
    let part = content.len() as u64 / 3 + 2000;
    let reader = reader_at(cutting(fake.address, move |_| part));
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("image");
    pull(&reader, &dir).unwrap();
    assert_eq!(fs::read(dir.join(Digest::of(&content).hex())).unwrap(), content);
    let (_, ranges) = largest(&fake);
    let begin = |range: &Option<String>| {
        let first =
            |range: &String| range["bytes=".len()..].split('-').next().unwrap().parse::<u64>().unwrap();
        range.as_ref().map_or(0, first)
    };
    let begins: Vec<u64> = ranges.iter().map(begin).collect();
    assert!(begins.len() >= 3 && begins.is_sorted() && begins[1] > 0 && begins[2] > begins[1], "{begins:?}");
}

#[test]
fn a_registry_without_ranges_sends_the_blob_again() {
    let fixture = Fixture::new();
    let contents: Arc<Mutex<BTreeMap<Digest, Bytes>>> = Arc::default();
    let shared = contents.clone();
    let fake = Fake::with(move |got, _| {
        let digest = got.line.strip_prefix("GET /v2/team/app/blobs/")?.parse().unwrap();
        let bytes = shared.lock().unwrap().get(&digest)?.clone();
        Some(Instead { bytes, ..Instead::new(200) })
    });
    push(&fixture, &fixture.spec("none"), &fake, "t").unwrap();
    *contents.lock().unwrap() = fake.contents("team/app");
    let (content, _) = largest(&fake);
    let part = content.len() as u64 / 2;
    let reader = reader_at(cutting(fake.address, move |nth| if nth <= 2 { part } else { u64::MAX }));
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("image");
    pull(&reader, &dir).unwrap();
    assert_eq!(fs::read(dir.join(Digest::of(&content).hex())).unwrap(), content);
}

#[test]
fn wrong_blobs_are_refused_and_nothing_is_left() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("gzip:1");
    push(&fixture, &spec, &fake, "t").unwrap();
    let (reader, directory) = (reader(&fake), tempfile::tempdir().unwrap());
    let layer = spec.layers[0].clone();
    let right = fake.contents("team/app")[&layer.digest].clone();
    let mut flipped = right.to_vec();
    flipped[20] ^= 1;
    for (wrong, why) in [
        (flipped, "its content has the digest sha256:"),
        (right[..right.len() - 1].to_vec(), "bytes, but the manifest records"),
        ([&right[..], b"x"].concat(), "it has more than the"),
    ] {
        fake.replace("team/app", layer.digest, wrong);
        let error = pull(&reader, &directory.path().join("image")).unwrap_err().chain();
        assert!(error.contains(&format!("cannot read the blob {}", layer.digest)), "{error}");
        assert!(error.contains(why), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    fake.change(|registry| registry.repository("team/app").blobs.remove(&layer.digest));
    let error = pull(&reader, &directory.path().join("image")).unwrap_err();
    assert!(error.is_absence(), "{error}");
}

#[test]
fn a_wrong_size_of_the_config_is_an_error() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    push(&fixture, &fixture.spec("gzip:1"), &fake, "t").unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&fake.manifest("team/app", "t")).unwrap();
    manifest["config"]["size"] = 1.into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fake.change(|registry| {
        let stored = registry.repository("team/app");
        let digest = Digest::of(&bytes);
        stored.manifests.insert(digest, bytes.into());
        stored.tags.insert("t".into(), digest);
    });
    let error = reader(&fake).image(&Version::Tag("t".into()), &amd64()).unwrap_err().chain();
    assert!(error.ends_with("bytes, but the manifest records 1"), "{error}");
}

#[test]
fn a_pull_that_is_stopped_leaves_nothing() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    push(&fixture, &fixture.spec("gzip:1"), &fake, "t").unwrap();
    let (content, _) = largest(&fake);
    let digest = Digest::of(&content);
    // The largest blob never arrives.
    let (address, slow) = (fake.address, format!("GET /v2/team/app/blobs/{digest}"));
    let stalling = Fake::new(Default::default(), move |got, _| match got.line == slow {
        true => Act::Stall(Duration::from_secs(100)),
        false => Act::Instead(
            Instead::new(307)
                .with("Location", format!("http://{address}{}", got.line.split_once(' ').unwrap().1)),
        ),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let reference: Reference = format!("{}/team/app:t", stalling.address).parse().unwrap();
    let reader = client(Arc::new(())).stopping_at(&stop).reader(&reference.repository).unwrap();
    let image = image(&reader);
    let directory = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    let error = reader.pull(&image, &directory.path().join("image"), &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Packer(nixply_packer::Error::Interrupted)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(50), "the registry would have answered after 100 s");
    stopper.join().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_files_of_a_killed_pull_are_removed_by_a_pull_of_another_image() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    push(&fixture, &fixture.spec("gzip:1"), &fake, "t").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [left, users] =
        ["aaaaaa", "bbbbbb"].map(|name| directory.path().join(format!(".nixply-scratch-{name}")));
    for (path, file) in [(&left, Digest::of(b"of another image").hex()), (&users, "notes".into())] {
        fs::create_dir(path).unwrap();
        fs::write(path.join(file), "half").unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(100);
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    pull(&reader(&fake), &directory.path().join("image")).unwrap();
    assert!(!left.exists() && users.join("notes").exists());
}

#[test]
fn measured_blobs_have_the_digests_of_the_spec() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("zstd:1");
    push(&fixture, &spec, &fake, "t").unwrap();
    let reader = reader(&fake);
    let image = image(&reader);
    assert_eq!(image.manifest.bytes, fake.manifest("team/app", "t"));
    assert_eq!(image.digest(), image.manifest.digest);
    for (layer, remote) in spec.layers.iter().zip(&image.spec.layers) {
        assert_eq!((remote.digest, remote.diff_id, remote.size), (layer.digest, layer.diff_id, layer.size));
        assert_eq!((&remote.media_type, remote.key), (&layer.media_type, layer.key));
        assert!(remote.paths.is_empty() && remote.layer_path.is_none());
        let measured = reader.measured(layer.digest, layer.size).unwrap().unwrap();
        assert_eq!((measured.digest, measured.size), (layer.digest, layer.size));
        assert_eq!(measured.diff_id, Ok(layer.diff_id));
    }
    assert_eq!(reader.measured(Digest::of(b"other"), 5).unwrap(), None);
    assert_eq!(reader.unchecked_small(Digest::of(b"other"), 5).unwrap(), None);
    let config = reader.unchecked_small(image.fields.config.digest, 1 << 20).unwrap();
    assert_eq!(config, Some(image.config.clone()));
}

#[test]
fn the_hash_of_a_pulled_directory_is_that_of_its_archive() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    push(&fixture, &fixture.spec("gzip:1"), &fake, "t").unwrap();
    let (reader, directory) = (reader(&fake), tempfile::tempdir().unwrap());
    let dir = directory.path().join("image");
    pull(&reader, &dir).unwrap();
    // The archive as in the Nix manual, "Nix Archive (NAR) format".
    let mut nar = Vec::new();
    let word = |nar: &mut Vec<u8>, word: &[u8]| {
        nar.extend((word.len() as u64).to_le_bytes());
        nar.extend(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    };
    let words = |nar: &mut Vec<u8>, words: &[&[u8]]| words.iter().for_each(|text| word(nar, text));
    words(&mut nar, &[b"nix-archive-1", b"(", b"type", b"directory"]);
    for (name, content) in files(&dir) {
        words(&mut nar, &[b"entry", b"(", b"name", name.as_bytes(), b"node", b"(", b"type", b"regular"]);
        words(&mut nar, &[b"contents", &content, b")", b")"]);
    }
    words(&mut nar, &[b")"]);
    let expected: [u8; 32] = Sha256::digest(&nar).into();
    assert_eq!(reader.pulled_hash(&image(&reader), &|_| {}).unwrap(), expected);
}
