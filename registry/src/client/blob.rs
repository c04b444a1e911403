//! A blob as a stream of bytes.

use std::io::{self, Read};

use hyper::body::Bytes;
use nixply_oci::Digest;
use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use super::answer;
use super::blobs::{self, Opened};
use super::read::Reader;
use super::retry::{Failure, Retry};
use crate::error::{Error, Result};

/// Number of bytes after which a broken connection counts as the first one again.
const PROGRESS: u64 = 1 << 20;

/// A blob that is being read. After a broken connection, it requests the rest.
pub struct Blob<'r> {
    reader: &'r Reader,
    digest: Digest,
    size: u64,
    /// Number of bytes that the caller has read, and those that the next reads return.
    at: u64,
    rest: Bytes,
    answer: Option<Response>,
    /// Number of bytes to ignore: the registry has sent the blob from its beginning again.
    ignored: u64,
    retry: Retry,
    /// Position at the last broken connection.
    broken_at: u64,
}

impl<'r> Blob<'r> {
    pub(super) fn new(reader: &'r Reader, digest: Digest, size: u64) -> Self {
        let (rest, retry) = (Bytes::new(), reader.session.retry());
        Self { reader, digest, size, at: 0, rest, answer: None, ignored: 0, retry, broken_at: 0 }
    }

    /// Sends the request, if none was sent yet.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.answer.is_none() {
            let opened = open(self.reader, self.digest, (self.at, self.size), &mut self.ignored);
            self.answer = Some(self.reader.runtime.block_on(opened)?);
        }
        Ok(())
    }

    /// Returns the next bytes. None are the end.
    pub fn piece(&mut self) -> Result<Bytes> {
        loop {
            let rest = std::mem::take(&mut self.rest);
            if !rest.is_empty() {
                let ignored = self.ignored.min(rest.len() as u64);
                self.ignored -= ignored;
                let rest = rest.slice(usize::try_from(ignored).expect("at most a length")..);
                if !rest.is_empty() {
                    self.at += rest.len() as u64;
                    return Ok(rest);
                }
            }
            let runtime = &self.reader.runtime;
            let Some(answer) = &mut self.answer else {
                self.begin()?;
                continue;
            };
            // A connection that ends an answer of unknown length may be broken.
            let ends = answer.headers().contains_key(CONTENT_LENGTH)
                || answer.headers().contains_key(TRANSFER_ENCODING);
            let error = match runtime.block_on(answer::piece(answer)) {
                Ok(Some(piece)) => {
                    self.rest = piece;
                    continue;
                }
                Ok(None) if ends || self.at >= self.size => return Ok(Bytes::new()),
                Ok(None) => io::ErrorKind::UnexpectedEof.into(),
                Err(_) if self.at > 0 && self.at == self.size => return Ok(Bytes::new()),
                Err(error) => error,
            };
            self.answer = None;
            if self.at >= self.broken_at + PROGRESS {
                self.retry = self.reader.session.retry();
            }
            self.broken_at = self.at;
            let failure = Failure::Passing(failed(self.reader, self.digest, error), None);
            runtime.block_on(self.retry.pause(failure, true))?;
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece().map_err(io::Error::other)?;
        let read = piece.len().min(out.len());
        out[..read].copy_from_slice(&piece[..read]);
        self.at -= (piece.len() - read) as u64;
        self.rest = piece.slice(read..);
        Ok(read)
    }
}

/// Requests the bytes from `at` on. Sets `ignored` if the registry sends all of them.
async fn open(
    reader: &Reader,
    digest: Digest,
    (at, size): (u64, u64),
    ignored: &mut u64,
) -> Result<Response> {
    // Without a known size, the whole blob is read again.
    let part = (at > 0 && at < size && size < u64::MAX).then_some(at..size);
    match blobs::open(&reader.session, digest, part).await? {
        Opened::Part(answer) => {
            *ignored = 0;
            Ok(answer)
        }
        Opened::Whole(answer) => {
            *ignored = at;
            Ok(answer)
        }
    }
}

pub(super) fn failed(reader: &Reader, digest: Digest, source: io::Error) -> Error {
    let (host, what) = (reader.repository().host.clone(), format!("read the blob {digest}"));
    Error::Answer { host, what, source }
}
