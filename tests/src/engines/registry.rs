//! A registry client that shares no code with the tools under test.

use std::io::{Read, Write};
use std::net::TcpStream;

/// The registry that `cargo xtask test` has started.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Registry {
    /// Returns a manifest or a blob. `kind` is `manifests` or `blobs`.
    #[track_caller]
    pub fn get(&self, repository: &str, kind: &str, reference: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).expect("the registry listens");
        // HTTP 1.0 has no chunks: the body ends with the connection.
        let request = format!(
            "GET /v2/{repository}/{kind}/{reference} HTTP/1.0\r\nHost: {}\r\n\
             Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).expect("the registry reads requests");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the registry answers");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.split(' ').nth(1) == Some("200"), "{repository} {kind} {reference}: {head}");
        answer.split_off(end + 4)
    }

    /// Uploads a manifest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &str) {
        let mut stream = TcpStream::connect(&self.address).expect("the registry listens");
        let request = format!(
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.0\r\nHost: {}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\n\r\n{manifest}",
            self.address,
            manifest.len()
        );
        stream.write_all(request.as_bytes()).expect("the registry reads requests");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the registry answers");
        assert!(answer.split(' ').nth(1) == Some("201"), "{repository}:{tag}: {answer}");
    }

    /// Returns skopeo's reference to an image in the registry.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("docker://{}/{repository}:{tag}", self.address)
    }
}
