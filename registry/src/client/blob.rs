//! Reads the blobs of a repository: small ones as a whole, others as streams of bytes.

use std::io::{self, Read};
use std::ops::Range;

use hyper::body::Bytes;
use nixply_oci::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, TRANSFER_ENCODING};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

use super::answer;
use super::pace::Action;
use super::read::Reader;
use super::retry::{Failure, Retry};
use super::session::{Call, Session};
use crate::error::{Error, Result};

/// Maximum number of reads of a blob that the registry does not find, although a manifest names it.
const UNKNOWN_TRIES: u32 = 4;

/// Number of bytes after which a broken connection counts as the first one again.
const PROGRESS: u64 = 1 << 20;

/// Maximum size of a config, in bytes.
pub(super) const MAX_CONFIG: usize = 64 << 20;

/// An answer with bytes of a blob.
enum Opened {
    /// The requested part.
    Part(Response),
    /// The whole blob.
    Whole(Response),
}

/// Starts to read a blob, or a part of it.
async fn open(session: &Session, digest: Digest, part: Option<Range<u64>>) -> Result<Opened> {
    let what = what(digest);
    let call = Call::new(Action::Read, Method::GET, session.url(&format!("blobs/{digest}")), &what);
    let with_range = async |request: RequestBuilder| {
        Ok(match &part {
            Some(part) => request.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1)),
            None => request,
        })
    };
    let answer = session.send_redirected(call, with_range).await?;
    match answer.status() {
        StatusCode::OK => Ok(Opened::Whole(answer)),
        StatusCode::PARTIAL_CONTENT if part.as_ref().is_some_and(|part| is_part(&answer, part)) => {
            Ok(Opened::Part(answer))
        }
        _ => Err(session.refused(&what, answer).await),
    }
}

/// Returns whether an answer has the requested part, by its header `Content-Range: bytes FIRST-LAST/SIZE`.
fn is_part(answer: &Response, part: &Range<u64>) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {}-{}/", part.start, part.end - 1)))
}

fn what(digest: Digest) -> String {
    format!("read the blob {digest}")
}

/// Returns the error of a blob that cannot be read.
pub(super) fn failed(session: &Session, digest: Digest, source: io::Error) -> Error {
    Error::Answer { host: session.repository().host.clone(), what: what(digest), source }
}

/// Reads a small blob that a manifest names, such as a config, of at most this many bytes.
pub(super) async fn small(session: &Session, digest: Digest, most: usize) -> Result<Bytes> {
    let mut retry = session.retry();
    let bytes = loop {
        let error = match open(session, digest, None).await {
            Ok(Opened::Whole(answer) | Opened::Part(answer)) => match answer::bytes(answer, most).await {
                Ok(bytes) => break bytes,
                Err(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(failed(session, digest, source));
                }
                Err(source) => failed(session, digest, source),
            },
            // Google's registries do not find a blob now and then.
            Err(error) if error.is_absence() && retry.tries() < UNKNOWN_TRIES => error,
            Err(error) => return Err(error),
        };
        session.pause(&mut retry, Failure::Passing(error, None)).await?;
    };
    let found = Digest::of(&bytes);
    match found == digest {
        true => Ok(bytes.into()),
        false => Err(failed(session, digest, io::Error::other(format!("the answer has the digest {found}")))),
    }
}

/// A blob, or a part of it, as a stream of bytes. After a broken connection, it requests the rest.
pub struct Blob<'r> {
    reader: &'r Reader,
    digest: Digest,
    /// Whether the registry must send a part, instead of the whole blob.
    is_part: bool,
    /// Position of the next byte for the caller, and of the end. The end is unknown if it is the maximum.
    at: u64,
    end: u64,
    /// Received bytes that the next reads return.
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
        Self::between(reader, digest, 0..size, false)
    }

    /// Returns a part of a blob. The first read fails with [`io::ErrorKind::Unsupported`] if the registry sends only whole blobs.
    pub(super) fn part(reader: &'r Reader, digest: Digest, part: Range<u64>) -> Self {
        Self::between(reader, digest, part, true)
    }

    fn between(
        reader: &'r Reader,
        digest: Digest,
        Range { start: at, end }: Range<u64>,
        is_part: bool,
    ) -> Self {
        let (rest, retry) = (Bytes::new(), reader.session.retry());
        Self { reader, digest, is_part, at, end, rest, answer: None, ignored: 0, retry, broken_at: at }
    }

    /// Sends the request, if none was sent yet.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.answer.is_none() {
            // Without a known end, the whole blob is read again.
            let is_part = self.is_part || self.at > 0 && self.at < self.end && self.end < u64::MAX;
            let opened = open(&self.reader.session, self.digest, is_part.then_some(self.at..self.end));
            let (answer, ignored) = match self.reader.wait(opened)? {
                Opened::Part(answer) => (answer, 0),
                Opened::Whole(_) if self.is_part => {
                    let why = "the registry sends no parts of blobs";
                    return Err(self.failed(io::Error::new(io::ErrorKind::Unsupported, why)));
                }
                Opened::Whole(answer) => (answer, self.at),
            };
            (self.answer, self.ignored) = (Some(answer), ignored);
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
            let Some(answer) = &mut self.answer else {
                self.begin()?;
                continue;
            };
            // A connection that ends an answer of unknown length may be broken.
            let ends = answer.headers().contains_key(CONTENT_LENGTH)
                || answer.headers().contains_key(TRANSFER_ENCODING);
            let error = match self.reader.wait(async { Ok(answer::piece(answer).await) })? {
                Ok(Some(piece)) => {
                    self.rest = piece;
                    continue;
                }
                Ok(None) if ends || self.at >= self.end => return Ok(Bytes::new()),
                Ok(None) => io::ErrorKind::UnexpectedEof.into(),
                Err(_) if self.at > 0 && self.at == self.end => return Ok(Bytes::new()),
                Err(error) => error,
            };
            self.answer = None;
            if self.at >= self.broken_at + PROGRESS {
                self.retry = self.reader.session.retry();
            }
            self.broken_at = self.at;
            let failure = Failure::Passing(self.failed(error), None);
            self.reader.wait(self.retry.pause(failure, true))?;
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        failed(&self.reader.session, self.digest, source)
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
