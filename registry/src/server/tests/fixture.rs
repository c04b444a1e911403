//! A store, its images and a client, for the server's tests.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nixply_packer::{Control, ImageRequest, ImageSpec, Packer, Packing};
use nixply_planning::{Closure, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::content::{Image, Settings};
use crate::server::{Options, Server};

/// A store with two paths of a few megabytes that compress to about half.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        Some(self.head.lines().find(line)?.split_once(": ").unwrap().1)
    }

    /// Returns whether the body has the length that the header promises.
    pub(crate) fn is_whole(&self) -> bool {
        self.header("content-length").unwrap().parse() == Ok(self.body.len())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap(), reports: Arc::default() };
        for (at, name) in ["a", "b"].iter().enumerate() {
            let path = fixture.real(name);
            fs::create_dir_all(path.join("bin")).unwrap();
            fs::write(path.join("bin/data"), noise(at as u32 + 1, 3_000_000)).unwrap();
            fs::write(path.join("text"), "text\n".repeat(200_000)).unwrap();
        }
        fs::create_dir(fixture.directory.path().join("scratch")).unwrap();
        fixture
    }

    pub(crate) fn store(&self) -> Store {
        let mut store = Store::at("/nix/store");
        store.real_dir = self.directory.path().join("store");
        store
    }

    pub(crate) fn path(name: &str) -> String {
        format!("/nix/store/{}-{name}", name.repeat(32))
    }

    pub(crate) fn real(&self, name: &str) -> PathBuf {
        self.store().real_file(&Self::path(name))
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// An image with one layer each for `a` and `b`.
    pub(crate) fn spec(&self, compression: &str) -> ImageSpec {
        self.build(compression, &Packer::new(2))
    }

    /// The same image, packed by this packer.
    pub(crate) fn build(&self, compression: &str, packer: &Packer) -> ImageSpec {
        let paths = ["a", "b"].map(Self::path);
        let hash = format!("sha256:{}", "0".repeat(64));
        let info = |path| json!({"path": path, "narHash": hash, "narSize": 4_000_000, "references": []});
        let closure = Closure::from_json(&json!(paths.clone().map(info)).to_string()).unwrap();
        let request = json!({
            "layers": paths.map(|path| json!({"deps": [path]})), "arch": "amd64", "compression": compression,
            "config": {"Env": [format!("CODEC={compression}")]},
        });
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let stop = Default::default();
        let control = Control::new(&stop, &());
        request.build(&closure, &Packing::new(&self.store(), packer, &control)).unwrap().spec
    }

    pub(crate) fn options(&self, compression: &str) -> Options {
        let reports = self.reports.clone();
        let content = Settings {
            compression: compression.parse().unwrap(),
            scratch: self.scratch(),
            threads: 2,
            report: Arc::new(move |error| reports.lock().unwrap().push(error.chain())),
            ..Settings::new(self.store())
        };
        Options { content, ..Options::new(self.store()) }
    }

    pub(crate) fn serve(&self, spec: &ImageSpec, compression: &str) -> Server {
        let image = Image::new("some/image", "t", spec.clone()).unwrap();
        Server::start(vec![image], self.options(compression)).unwrap()
    }
}

/// Deterministic bytes; half of their bits are pseudorandom.
pub(crate) fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x0f
    };
    std::iter::repeat_with(next).take(count).collect()
}

pub(crate) const OCI: &str = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";

pub(crate) fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset connection may have delivered its answer before.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
}

pub(crate) fn get(server: &Server, path: &str) -> Answer {
    ask(server, "GET", path, OCI)
}

pub(crate) fn blob(digest: impl std::fmt::Display) -> String {
    format!("/v2/some/image/blobs/{digest}")
}

pub(crate) const MANIFEST: &str = "/v2/some/image/manifests/t";

pub(crate) fn nothing_in(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}
