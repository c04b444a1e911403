//! Events that the server's owner receives.

use std::fs;
use std::io::{Read as _, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nixply_oci::Digest;
use nixply_packer::{ImageSpec, PackedLayer, Progress};

use super::fixture::{Fixture, MANIFEST, ask, blob, get};
use crate::content::{Image, Observer, Read};
use crate::server::Server;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    /// With the expected number of bytes, if known.
    PackingBegun(usize, u64),
    /// With the packed bytes since the last event.
    Packed(usize, u64, u64),
    Begun(Read),
    /// With the sent bytes since the last event.
    Ended(Read, u64, bool),
}

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    packed: [u64; 3],
    sent: [u64; 3],
}

/// Records all events.
#[derive(Default)]
struct RecordingObserver(Mutex<Record>);

impl Progress for RecordingObserver {
    fn layer_started(&self, layer: usize, expected: u64) {
        self.0.lock().unwrap().events.push(Event::PackingBegun(layer, expected));
    }

    fn packed(&self, layer: usize, bytes: u64) {
        self.0.lock().unwrap().packed[layer] += bytes;
    }

    fn layer_finished(&self, layer: usize, packed: &PackedLayer) {
        let mut record = self.0.lock().unwrap();
        let bytes = std::mem::take(&mut record.packed[layer]);
        record.events.push(Event::Packed(layer, bytes, packed.size));
    }
}

impl Observer for RecordingObserver {
    fn read_begun(&self, read: &Read) {
        self.0.lock().unwrap().events.push(Event::Begun(read.clone()));
    }

    fn sent(&self, read: &Read, bytes: u64) {
        self.0.lock().unwrap().sent[read.layer] += bytes;
    }

    fn read_ended(&self, read: &Read, whole: bool) {
        let mut record = self.0.lock().unwrap();
        let bytes = std::mem::take(&mut record.sent[read.layer]);
        record.events.push(Event::Ended(read.clone(), bytes, whole));
    }
}

impl RecordingObserver {
    fn serve(fixture: &Fixture, spec: &ImageSpec, compression: &str) -> (Arc<Self>, Server) {
        let observer = Arc::new(Self::default());
        let mut options = fixture.options(compression);
        options.content.observer = observer.clone();
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        (observer, Server::start(vec![image], options).unwrap())
    }

    /// Returns the events since the last call, once a read has ended. A server may report the end after its client
    /// has received everything.
    fn until_ended(&self) -> Vec<Event> {
        let begin = Instant::now();
        let is_end = |event: &Event| matches!(event, Event::Ended(..));
        while !self.0.lock().unwrap().events.iter().any(is_end) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", self.take());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.take()
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }
}

#[test]
fn reads_are_reported_from_start_to_end() {
    let fixture = Fixture::new();
    let spec = fixture.spec("zstd");
    let (observer, server) = RecordingObserver::serve(&fixture, &spec, "auto");
    get(&server, MANIFEST);
    for layer in &spec.layers {
        ask(&server, "HEAD", &blob(layer.digest), "");
        ask(&server, "GET", &blob(layer.digest), &format!("If-None-Match: \"{}\"\r\n", layer.digest));
    }
    assert_eq!(observer.take(), [], "no client has read a layer");

    let layer = &spec.layers[1];
    let read = Read { layer: 1, digest: layer.digest, size: layer.size, part: 0..layer.size };
    assert_eq!(get(&server, &blob(layer.digest)).body.len() as u64, layer.size);
    let (mut packing, reading): (Vec<_>, Vec<_>) = observer
        .until_ended()
        .into_iter()
        .partition(|event| matches!(event, Event::PackingBegun(..) | Event::Packed(..)));
    assert_eq!(reading, [Event::Begun(read.clone()), Event::Ended(read.clone(), layer.size, true)]);
    // The last event of packing may come after the client has received the last byte.
    let begin = Instant::now();
    while packing.len() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{packing:?}");
        packing.extend(observer.take());
    }
    let [Event::PackingBegun(1, 0), Event::Packed(1, bytes, size)] = packing[..] else {
        panic!("{packing:?}")
    };
    assert!(bytes > 4_000_000 && size == layer.size, "{packing:?}");

    // A part of the same layer, which is already packed.
    let part = ask(&server, "GET", &blob(layer.digest), "Range: bytes=1000-300999\r\n");
    assert_eq!((part.status, part.body.len()), (206, 300_000));
    let read = Read { part: 1000..301_000, ..read };
    assert_eq!(observer.until_ended(), [Event::Begun(read.clone()), Event::Ended(read, 300_000, true)]);
}

#[test]
fn packing_for_a_manifest_is_reported() {
    let fixture = Fixture::new();
    let spec = fixture.spec("none");
    let (observer, server) = RecordingObserver::serve(&fixture, &spec, "zstd");
    assert_eq!(get(&server, MANIFEST).status, 200);
    let events = observer.take();
    for layer in 0..2 {
        // A spec records the size of a plain layer only.
        assert!(events.contains(&Event::PackingBegun(layer, spec.layers[layer].size)), "{events:?}");
        let is_packed =
            |event: &&Event| matches!(event, Event::Packed(at, 4_000_000.., 1_000_000..) if *at == layer);
        assert_eq!(events.iter().filter(is_packed).count(), 1, "{events:?}");
    }
    assert_eq!(events.len(), 4, "{events:?}");
}

#[test]
fn failed_reads_are_reported_as_ended() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("zstd");
    // A base image's layer larger than the socket buffers, and a layer that differs from the spec.
    let file = fixture.directory.path().join("base.tar");
    fs::File::create(&file).unwrap().set_len(256 << 20).unwrap();
    let mut base = spec.layers[0].clone();
    (base.layer_path, base.digest, base.paths) =
        (file.to_str().map(String::from), Digest::of(b"base"), Vec::new());
    spec.layers.insert(0, base);
    spec.layers[2].digest = Digest::of(b"another blob of the same size");
    let (observer, server) = RecordingObserver::serve(&fixture, &spec, "auto");

    let digest = spec.layers[0].digest;
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", blob(digest)).as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    let read = Read { layer: 0, digest, size: 256 << 20, part: 0..256 << 20 };
    let events = observer.until_ended();
    let [Event::Begun(begun), Event::Ended(ended, sent, false)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((begun, ended), (&read, &read));
    assert!((1..read.size).contains(sent), "{sent}");

    let wrong = &spec.layers[2];
    assert!(!get(&server, &blob(wrong.digest)).is_whole());
    let read = Read { layer: 2, digest: wrong.digest, size: wrong.size, part: 0..wrong.size };
    let ended =
        |event: &Event| matches!(event, Event::Ended(of, sent, false) if *of == read && *sent < read.size);
    let events = observer.until_ended();
    assert!(events.iter().any(ended), "{events:?}");
}
