//! Runs `nixply serve`, with a client that shares no code with the tools under test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::{Directory, json, text};
use crate::nix::Nix;
use crate::running::Running;

/// Maximum time for the server to start and to end.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that runs until this value is dropped.
pub struct Served {
    running: Running,
    scratch: Directory,
    /// The printed references of the images, in order.
    pub references: Vec<String>,
}

/// A server's summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of packed layers.
    pub packed: u64,
    /// Number of sent bytes of blobs.
    pub bytes: u64,
    /// Number of blobs (layers and configs) that were sent, completely or in part.
    pub blobs: u64,
    /// Everything on standard error.
    pub stderr: String,
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status, such as 200.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The received part of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns a header's value, by its lowercase name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the first error code of an error body.
    #[track_caller]
    pub fn code(&self) -> String {
        text(&json(&String::from_utf8_lossy(&self.body))["errors"][0]["code"]).to_owned()
    }
}

impl Served {
    /// Starts a server for the images of these specs, with additional arguments.
    #[track_caller]
    pub fn start(nix: &Nix, specs: &[&Path], arguments: &[&str]) -> Self {
        let scratch = Directory::new();
        let mut command = nix.nixply();
        command.arg("serve").args(specs).args(arguments).arg("--scratch-dir").arg(scratch.path());
        let mut running = Running::start(&mut command);
        running.wait_until(SERVER_TIMEOUT, |running| running.stdout().lines().count() == specs.len());
        let references = running.stdout().lines().map(str::to_owned).collect();
        Self { running, scratch, references }
    }

    /// Waits until standard error contains all of these texts. The server may print a message after the client
    /// has its response.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, words: &[&str]) {
        self.running.wait_until(SERVER_TIMEOUT, |running| {
            let said = running.stderr();
            words.iter().all(|word| said.contains(word))
        });
    }

    /// Returns the first image's reference.
    pub fn reference(&self) -> &str {
        &self.references[0]
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.reference().split('/').next().expect("split returns at least one part")
    }

    /// Returns the scratch directory. The server stores packed layers there, in files without names (`O_TMPFILE`).
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Requests a path below the first image's repository, such as `manifests/latest`. `headers` are complete
    /// lines.
    #[track_caller]
    pub fn ask(&self, method: &str, what: &str, headers: &str) -> Answer {
        let (image, _tag) = self.reference().rsplit_once(':').expect("a reference has a tag");
        let repository = image.split_once('/').expect("a reference has a name").1;
        let mut stream = TcpStream::connect(self.address()).expect("the server listens");
        let head =
            format!("{method} /v2/{repository}/{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close");
        stream.write_all(format!("{head}\r\n{headers}\r\n").as_bytes()).expect("the server reads requests");
        let mut answer = Vec::new();
        // If the server resets the connection, the bytes that arrived before are the response.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).expect("a head is text");
        let status = head.split(' ').nth(1).expect("the first line has a status").parse().expect("a number");
        Answer { status, head, body }
    }

    /// Ends the server as Ctrl-C does, and checks that it leaves no files.
    #[track_caller]
    pub fn stop(self) -> Summary {
        self.running.signal("INT");
        let output = self.running.finish(SERVER_TIMEOUT);
        let stderr = output.stderr.clone();
        output.ok();
        let left = std::fs::read_dir(self.scratch.path()).expect("the scratch directory exists").count();
        assert_eq!(left, 0, "{}", self.scratch.path().display());
        let summary = stderr.lines().last().unwrap_or_default();
        let numbers: Vec<u64> = summary.split([' ', '(']).filter_map(|word| word.parse().ok()).collect();
        // "answered 5 requests; packed 1 layers; sent 70 bytes (70 B) of 1 blobs": 1.5 MB is not a whole
        // number.
        let (&packed, &bytes, &blobs) = match &numbers[..] {
            [_, packed, bytes, .., blobs] => (packed, bytes, blobs),
            _ => panic!("no summary: {stderr}"),
        };
        Summary { packed, bytes, blobs, stderr }
    }
}
