//! Implements the pull half of OCI distribution-spec 1.1. Other requests get the specification's error
//! responses.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, LINK, RANGE, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use nixply_oci::{Digest, LINUX, Platform, Processor};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::admission::Admission;
use super::connections::ConnectionState;
use super::range::Part;
use super::refusal::{Refusal, respond};
use crate::content::blob_source::Check;
use crate::content::body::Body;
use crate::content::catalog::{Blob, Catalog, Document, Documents};
use crate::content::client_support::{ClientSupport, accepts_indexes};
use crate::content::observer::{Observed, Read};
use crate::content::pack_queue::PackQueue;
use crate::error::Error;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// State that all connections share.
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) queue: Arc<PackQueue>,
    pub(super) admission: Admission,
}

/// The resource that a path names.
#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    /// The API version check.
    Base,
    Manifest {
        name: &'p str,
        reference: &'p str,
    },
    Blob {
        name: &'p str,
        digest: &'p str,
    },
    Tags {
        name: &'p str,
    },
    Referrers {
        name: &'p str,
        digest: &'p str,
    },
    Other,
}

impl<'p> Route<'p> {
    /// Parses a path from its end, because names contain slashes.
    fn of(path: &'p str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else { return Self::Other };
        let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
            return if rest.is_empty() || rest == "/" { Self::Base } else { Self::Other };
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Self::Tags { name };
        }
        let mut parts = rest.rsplitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(reference), Some("manifests"), Some(name)) => Self::Manifest { name, reference },
            (Some(digest), Some("blobs"), Some(name)) => Self::Blob { name, digest },
            (Some(digest), Some("referrers"), Some(name)) => Self::Referrers { name, digest },
            _ => Self::Other,
        }
    }
}

impl Shared {
    /// Answers one request. `trusted` means that the peer may read every image.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
        trusted: bool,
        state: Arc<ConnectionState>,
    ) -> Result<Response<Body>, Infallible> {
        let answering = state.answer();
        self.queue.counters.request();
        let mut response = match self.admission.refuse(&request, trusted) {
            Some(response) => {
                self.queue.counters.refused();
                response
            }
            None => {
                state.trust();
                self.route(&request).await.unwrap_or_else(|refusal| refusal.answer())
            }
        };
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        if request.method() == Method::HEAD {
            // The Content-Length header stays.
            *response.body_mut() = Body::empty();
        }
        Ok(response.map(|body| body.during(answering)))
    }

    async fn route<B>(&self, request: &Request<B>) -> Result<Response<Body>, Refusal> {
        let head = request.method() == Method::HEAD;
        if !head && request.method() != Method::GET {
            let refusal = Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this registry is read-only: it accepts no pushes and no deletions",
            );
            let mut response = refusal.answer();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        let headers = request.headers();
        // Some clients write a digest's colon as %3A (RFC 3986, 2.1). Names and references are ASCII.
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
        match Route::of(&path) {
            Route::Base => Ok(respond(StatusCode::OK, "application/json", Body::whole("{}"))),
            Route::Manifest { name, reference } => {
                self.check_name(name)?;
                self.manifest(name, reference, headers).await
            }
            Route::Blob { name, digest } => {
                self.check_name(name)?;
                let unknown =
                    || Refusal::not_found("BLOB_UNKNOWN", format!("this registry has no blob {digest}"));
                let digest = parse_digest(digest)?.ok_or_else(unknown)?;
                let blob = self.catalog.blob(digest).ok_or_else(unknown)?;
                self.blob(digest, &blob, headers, head).await
            }
            Route::Tags { name } => self.tags(name, request.uri().query().unwrap_or_default()),
            Route::Referrers { name, digest } => {
                self.check_name(name)?;
                parse_digest(digest)?;
                Ok(referrers(request.uri().query().unwrap_or_default()))
            }
            Route::Other => Err(Refusal::not_found(
                "UNSUPPORTED",
                "this registry serves manifests, blobs, tags and referrers",
            )),
        }
    }

    fn check_name(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let unknown = || Refusal::not_found("NAME_UNKNOWN", format!("this registry has no image {name:?}"));
        self.catalog.tags(name).ok_or_else(unknown)
    }

    async fn manifest(
        &self,
        name: &str,
        reference: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let client = ClientSupport::of(headers);
        let found = if reference.contains(':') {
            match parse_digest(reference)? {
                Some(digest) => self.catalog.by_digest(name, digest, client, &self.queue).await,
                None => Ok(None),
            }
        } else {
            match self.catalog.documents(name, reference, client, &self.queue).await {
                Ok(Some(documents)) => Ok(Some(for_client(documents, headers)?)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let unknown = || {
            Refusal::not_found(
                "MANIFEST_UNKNOWN",
                format!("this registry has no manifest {reference:?} of {name}"),
            )
        };
        let Document { media_type, digest, bytes } =
            found.map_err(|error| self.failed(error))?.ok_or_else(unknown)?;
        let mut response = respond(StatusCode::OK, media_type, Body::whole(bytes));
        // The codec of a tag's layers depends on these headers.
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, User-Agent"));
        Ok(named(response, digest, headers))
    }

    async fn blob(
        &self,
        digest: Digest,
        blob: &Blob,
        headers: &HeaderMap,
        head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let size = blob.size();
        // A range of a different blob is ignored (RFC 9110, 13.1.5), and only GET has ranges.
        let resumes = text(headers, &IF_RANGE).is_none_or(|tag| tag == etag(digest));
        let wanted = text(headers, &RANGE).filter(|_| resumes && !head);
        let (status, part) = match wanted.map_or(Part::Whole, |value| Part::of(value, size)) {
            Part::Whole => (StatusCode::OK, 0..size),
            Part::Bytes(part) => (StatusCode::PARTIAL_CONTENT, part),
            Part::Outside => {
                let message = format!("the blob has {size} bytes");
                let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message);
                let mut response = refusal.answer();
                response.headers_mut().insert(CONTENT_RANGE, value(format!("bytes */{size}")));
                return Ok(response);
            }
        };
        let content_range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
        let (length, wanted) = (part.end - part.start, !head && !unchanged(headers, digest));
        let read = blob.layer_index().filter(|_| wanted && length > 0);
        let read = read.map(|layer| Read { layer, digest, size, part: part.clone() });
        let body = match wanted {
            // The client reads no bytes, so nothing is packed.
            false => Body::empty(),
            true => blob.body(part, Check::Sender, &self.queue).await.map_err(|error| self.failed(error))?,
        };
        let observed = read.map(|read| Observed::begin(&self.queue.observer, read));
        let body = body.counted(&self.queue, digest).observed(observed);
        let mut response = respond(status, "application/octet-stream", body);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status == StatusCode::PARTIAL_CONTENT {
            response.headers_mut().insert(CONTENT_RANGE, value(content_range));
        }
        Ok(named(response, digest, headers))
    }

    /// Lists at most `n` tags after the tag `last`.
    fn tags(&self, name: &str, query: &str) -> Result<Response<Body>, Refusal> {
        let mut tags = self.check_name(name)?;
        let parameter =
            |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        if let Some(last) = parameter("last") {
            tags.retain(|tag| *tag > last);
        }
        let most = parameter("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let more = tags.len() > most;
        tags.truncate(most);
        let list = json!({"name": name, "tags": tags});
        let mut response = respond(StatusCode::OK, "application/json", Body::whole(list.to_string()));
        if let Some(last) = tags.last().filter(|_| more) {
            let next = format!("</v2/{name}/tags/list?n={most}&last={last}>; rel=\"next\"");
            response.headers_mut().insert(LINK, value(next));
        }
        Ok(response)
    }

    /// Reports a failure of the server or a changed store path to the owner, and returns the response for the
    /// client.
    fn failed(&self, error: Error) -> Refusal {
        let message = error.chain();
        self.queue.failures.report(error);
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }
}

/// Returns a tag's own document. A client that does not accept indexes gets the manifest for this machine's platform, because
/// clients of a loopback address run here. Distribution's registry refuses such clients for OCI indexes, and sends them the
/// image for linux/amd64 for Docker's manifest lists.
fn for_client(documents: &Documents, headers: &HeaderMap) -> Result<Document, Refusal> {
    if documents.top.media_type != nixply_oci::INDEX || accepts_indexes(headers) {
        return Ok(documents.top.clone());
    }
    let processor = Processor::of_this_machine().unwrap_or_default();
    let platform = Platform { os: LINUX.into(), architecture: processor.arch, variant: processor.variant };
    let child = documents.child_for(&platform).cloned();
    child.ok_or_else(|| {
        let why = format!(
            "this tag is an image index, which the client does not accept, without an image for {platform}"
        );
        Refusal::not_found("MANIFEST_UNKNOWN", why)
    })
}

/// Answers with an empty list: no artifact refers to a manifest here. The list saves the client a look-up of
/// the tag `sha256-...` (distribution-spec 1.1, "Listing Referrers").
fn referrers(query: &str) -> Response<Body> {
    let index = json!({"schemaVersion": 2, "mediaType": nixply_oci::INDEX, "manifests": []});
    let mut response = respond(StatusCode::OK, nixply_oci::INDEX, Body::whole(index.to_string()));
    if query.split('&').any(|parameter| parameter.starts_with("artifactType=")) {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    response
}

/// Parses a digest. None for a digest of another algorithm, which no blob here has.
fn parse_digest(text: &str) -> Result<Option<Digest>, Refusal> {
    if let Ok(digest) = text.parse() {
        return Ok(Some(digest));
    }
    let other = text.split_once(':').is_some_and(|(algorithm, encoded)| {
        let known = algorithm.starts_with(|first: char| first.is_ascii_lowercase());
        known && algorithm != "sha256" && !encoded.is_empty()
    });
    let wrong =
        || Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{text:?} is not a digest"));
    if other { Ok(None) } else { Err(wrong()) }
}

/// Adds the content's digest. Omits the body if the client already has it.
fn named(mut response: Response<Body>, digest: Digest, headers: &HeaderMap) -> Response<Body> {
    if unchanged(headers, digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_RANGE);
    }
    response.headers_mut().insert(CONTENT_DIGEST, value(digest.to_string()));
    response.headers_mut().insert(ETAG, value(etag(digest)));
    response
}

fn unchanged(headers: &HeaderMap, digest: Digest) -> bool {
    let known = |tag: &str| tag.trim().trim_start_matches("W/") == etag(digest);
    text(headers, &IF_NONE_MATCH).is_some_and(|tags| tags.trim() == "*" || tags.split(',').any(known))
}

fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn value(text: String) -> HeaderValue {
    text.try_into().expect("digests, tags and numbers are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed_into_routes() {
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/a/manifests/t", Route::Manifest { name: "a", reference: "t" }),
            ("/v2/a/b/c/manifests/sha256:0", Route::Manifest { name: "a/b/c", reference: "sha256:0" }),
            ("/v2/blobs/blobs/blobs/x", Route::Blob { name: "blobs/blobs", digest: "x" }),
            ("/v2/a/tags/list", Route::Tags { name: "a" }),
            ("/v2/a/b/referrers/sha256:0", Route::Referrers { name: "a/b", digest: "sha256:0" }),
            ("/v2/a/blobs/uploads/", Route::Other),
            ("/v2/manifests/t", Route::Other),
            ("/v2//", Route::Other),
            ("/v2a/b/manifests/c", Route::Other),
            ("/v1/", Route::Other),
            ("/", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn digests_of_other_algorithms_are_unknown_and_malformed_ones_invalid() {
        let known = Digest::of(b"x").to_string();
        assert!(parse_digest(&known).is_ok_and(|digest| digest.is_some()));
        assert!(parse_digest("sha512:00").is_ok_and(|digest| digest.is_none()));
        for wrong in ["sha256:00", "sha512:", "x", ":", &known.to_uppercase()] {
            assert!(parse_digest(wrong).is_err_and(|refusal| refusal.code == "DIGEST_INVALID"), "{wrong}");
        }
    }
}
