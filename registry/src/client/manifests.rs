//! Reads and writes the manifests of a repository.

use std::io;

use futures_util::future::try_join_all;
use hyper::body::Bytes;
use nixply_oci::{Digest, INDEX, MANIFEST};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode};

use super::answer;
use super::index::Index;
use super::pace::Action;
use super::reference::{Reference, Version};
use super::retry::Failure;
use super::session::{Access, Call, Session};
use crate::content::catalog::Document;
use crate::error::{Error, Result};

/// Header with the digest of a manifest (distribution-spec).
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Media types of Docker's manifests, which OCI's have replaced.
const DOCKER: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A manifest or an index of a repository.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
}

/// The manifest that a repository has under a tag or digest.
pub(super) enum Current {
    /// The one that the caller knows.
    Known,
    /// Another one.
    Other(Found),
    /// None.
    Absent,
}

/// Result of writing a manifest.
pub(super) enum Written {
    Yes,
    /// The registry lacks one of the manifest's blobs, or one of the index's manifests.
    BlobUnknown,
}

/// Reads a manifest, unless it has the digest `known`.
pub(super) async fn read(session: &Session, version: &Version, known: Option<Digest>) -> Result<Current> {
    // Docker Hub limits the number of times that a user reads a manifest, but not looking it up.
    if known.is_some() && session.repository().is_of_docker_hub() {
        let answer = request(session, Method::HEAD, version, None).await?;
        let Some(answer) = existing(session, version, answer).await? else { return Ok(Current::Absent) };
        let digest = answer.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse().ok());
        if digest == known {
            return Ok(Current::Known);
        }
    }
    let what = what(version);
    let failed =
        |source| Error::Answer { host: session.repository().host.clone(), what: what.clone(), source };
    let mut retry = session.retry();
    let bytes: Bytes = loop {
        let answer = request(session, Method::GET, version, known).await?;
        if known.is_some() && answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Current::Known);
        }
        let Some(answer) = existing(session, version, answer).await? else { return Ok(Current::Absent) };
        match answer::bytes(answer, answer::MAX_DOCUMENT).await {
            Ok(bytes) => break bytes.into(),
            Err(source) if source.kind() == io::ErrorKind::FileTooLarge => return Err(failed(source)),
            Err(source) => session.pause(&mut retry, Failure::Passing(failed(source), None)).await?,
        }
    };
    let digest = Digest::of(&bytes);
    if let Version::Digest(expected) = version
        && *expected != digest
    {
        let source = io::Error::other(format!("the answer has the digest {digest}"));
        return Err(failed(source));
    }
    Ok(if known == Some(digest) { Current::Known } else { Current::Other(Found { bytes, digest }) })
}

/// Reads a manifest without comparing its digest.
pub(super) async fn unchecked(session: &Session, version: &Version) -> Result<Option<Bytes>> {
    let answer = request(session, Method::GET, version, None).await?;
    let Some(answer) = existing(session, version, answer).await? else { return Ok(None) };
    let (host, what) = (session.repository().host.clone(), what(version));
    let bytes = answer::bytes(answer, answer::MAX_DOCUMENT).await.map_err(|source| Error::Answer {
        host,
        what,
        source,
    })?;
    Ok(Some(bytes.into()))
}

async fn request(
    session: &Session,
    method: Method,
    version: &Version,
    known: Option<Digest>,
) -> Result<Response> {
    let what = what(version);
    let call = Call::new(Action::Read, method, session.url(&format!("manifests/{version}")), &what);
    let accept = format!("{MANIFEST}, {INDEX}, {}", DOCKER.join(", "));
    let build = async |request: reqwest::RequestBuilder| {
        let request = request.header(ACCEPT, &accept);
        Ok(match known {
            // A registry that knows no conditional requests sends the manifest.
            Some(known) => request.header(IF_NONE_MATCH, format!("\"{known}\"")),
            None => request,
        })
    };
    session.send_redirected(call, build).await
}

/// Returns a successful answer, or `None` if there is no such manifest.
async fn existing(session: &Session, version: &Version, answer: Response) -> Result<Option<Response>> {
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(None),
        // Some registries hide repositories that do not exist yet.
        StatusCode::FORBIDDEN if session.access() == Access::Push => Ok(None),
        status if status.is_success() => Ok(Some(answer)),
        _ => Err(session.refused(&what(version), answer).await),
    }
}

fn what(version: &Version) -> String {
    match version {
        Version::Tag(tag) => format!("look up the tag {tag}"),
        Version::Digest(digest) => format!("read the manifest {digest}"),
    }
}

/// Writes a manifest under a tag or its digest.
pub(super) async fn write(session: &Session, version: &Version, document: &Document) -> Result<Written> {
    let what = match version {
        Version::Tag(tag) => format!("write the tag {tag}"),
        Version::Digest(digest) => format!("write the manifest {digest}"),
    };
    let url = session.url(&format!("manifests/{version}"));
    let call = Call::new(Action::Manifest, Method::PUT, url, &what);
    let build = async |request: reqwest::RequestBuilder| {
        let request = request.header(CONTENT_TYPE, document.media_type);
        Ok(request.header(CONTENT_LENGTH, document.bytes.len()).body(document.bytes.clone()))
    };
    let answer = session.send(&call, build).await?;
    if answer.status().is_success() {
        return Ok(Written::Yes);
    }
    let error = session.refused(&what, answer).await;
    if let Error::Refused { code: Some(code), .. } = &error
        && matches!(code.as_str(), "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" | "MANIFEST_UNKNOWN")
    {
        return Ok(Written::BlobUnknown);
    }
    // The tag may be immutable, and another client may have written the same manifest in the meantime.
    match read(session, version, Some(document.digest)).await {
        Ok(Current::Known) => Ok(Written::Yes),
        _ => Err(error),
    }
}

/// Maximum number of an index's manifests that are read.
const MAX_CHILDREN: usize = 32;

/// Reads the manifests that an index names. A manifest names none. Leaves out those that the repository has lost.
pub(super) async fn children(session: &Session, document: &Found) -> Result<Vec<Found>> {
    let children = Index::of(&document.bytes).into_iter().flat_map(|index| index.manifests);
    let reads = children.take(MAX_CHILDREN).map(async |child| {
        Ok::<_, Error>(match read(session, &Version::Digest(child.digest), None).await? {
            Current::Other(found) => Some(found),
            Current::Known | Current::Absent => None,
        })
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// Returns the reference of a version for messages.
pub(super) fn reference(session: &Session, version: &Version) -> Reference {
    Reference { repository: session.repository().clone(), version: version.clone() }
}
