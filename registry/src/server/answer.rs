//! The protocol: OCI distribution-spec 1.1's pull half. Whatever it does not know it refuses with the spec's error
//! bodies.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, LINK, RANGE, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use nixply_packer::digest::Digest;
use nixply_packer::image::oci;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::admission::Admission;
use super::body::Body;
use super::catalog::{Blob, Catalog, Document};
use super::connections::Pulse;
use super::observer::{Observed, Read};
use super::pump::Source;
use super::range::Part;
use super::reads::Reads;
use super::workshop::Workshop;
use crate::error::Error;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What all connections share.
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) workshop: Arc<Workshop>,
    pub(super) admission: Admission,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    /// Whether this is a registry at all.
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
    /// Names have slashes in them, so a path is read from its end.
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

/// An error body of the specification ("Error codes").
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        respond(self.status, "application/json", Body::whole(body.to_string()))
    }
}

impl Shared {
    /// Answers a request of a connection. `trusted`, its peer may read what there is.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
        trusted: bool,
        pulse: Arc<Pulse>,
    ) -> Result<Response<Body>, Infallible> {
        let answering = pulse.answer();
        self.workshop.counters.request();
        let mut response = match self.admission.refuse(&request, trusted) {
            Some(response) => {
                self.workshop.counters.refused();
                response
            }
            None => {
                pulse.trust();
                self.route(&request).await.unwrap_or_else(|refusal| refusal.answer())
            }
        };
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        if request.method() == Method::HEAD {
            // The length stays in its header.
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
                "this registry serves images that are built elsewhere; nothing can be pushed to it or deleted",
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
                    || Refusal::not_found("BLOB_UNKNOWN", format!("no image here has the blob {digest}"));
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
                "this registry has manifests, blobs, tags and referrers",
            )),
        }
    }

    fn check_name(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let unknown = || Refusal::not_found("NAME_UNKNOWN", format!("no image is called {name:?} here"));
        self.catalog.tags(name).ok_or_else(unknown)
    }

    async fn manifest(
        &self,
        name: &str,
        reference: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let reads = Reads::of(headers);
        let found = if reference.contains(':') {
            match parse_digest(reference)? {
                Some(digest) => self.catalog.by_digest(name, digest, reads, &self.workshop).await,
                None => Ok(None),
            }
        } else {
            self.catalog.by_tag(name, reference, reads, &self.workshop).await
        };
        let unknown =
            || Refusal::not_found("MANIFEST_UNKNOWN", format!("{name} has no manifest {reference:?} here"));
        let Document { bytes, digest } = found.map_err(|error| self.failed(&error))?.ok_or_else(unknown)?;
        let mut response = respond(StatusCode::OK, oci::MANIFEST, Body::whole(bytes));
        // Which codec a tag's layers have depends on who asks.
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
        let size = match blob {
            Blob::Bytes(bytes) => bytes.len() as u64,
            Blob::File(file) => file.size,
            Blob::Converted(converted) => converted.made().expect("it is found by its digest").size,
            Blob::Packed(packed) => packed.known().expect("it is found by its digest").1,
        };
        // Another blob's rest is not this one's (RFC 9110, 13.1.5); and ranges are for GET alone.
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
        let read = blob.place().filter(|_| wanted && length > 0);
        let read = read.map(|layer| Read { layer, digest, size, part: part.clone() });
        let body = match blob {
            // Nobody reads it: nothing is packed.
            _ if !wanted => Body::empty(),
            Blob::Bytes(bytes) => Body::whole(bytes.slice(part.start as usize..part.end as usize)),
            Blob::File(file) => Body::pieces(Source::File(file.clone()), part, size, &self.workshop),
            Blob::Converted(converted) => {
                let made = converted.made().expect("it is found by its digest");
                Body::pieces(Source::Growing(made.bytes.clone()), part, size, &self.workshop)
            }
            Blob::Packed(packed) => {
                let source = self.workshop.source(packed).await.map_err(|error| self.failed(&error))?;
                Body::pieces(source, part, size, &self.workshop)
            }
        };
        let observed = read.map(|read| Observed::begin(&self.workshop.observer, read));
        let body = body.counted(&self.workshop, digest).observed(observed);
        let mut response = respond(status, "application/octet-stream", body);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status == StatusCode::PARTIAL_CONTENT {
            response.headers_mut().insert(CONTENT_RANGE, value(content_range));
        }
        Ok(named(response, digest, headers))
    }

    /// Tags, from the one after `last`, at most `n` of them.
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

    /// Something of ours or the machine's, or a store path that changed: it is for the owner, and for the asker.
    fn failed(&self, error: &Error) -> Refusal {
        self.workshop.report(error);
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", error.chain())
    }
}

/// What refers to a manifest: nothing does, of whatever type. An empty list spares the asker looking for a tag `sha256-...`
/// (distribution-spec 1.1, "Listing Referrers").
fn referrers(query: &str) -> Response<Body> {
    let index = json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": []});
    let mut response = respond(StatusCode::OK, oci::INDEX, Body::whole(index.to_string()));
    if query.split('&').any(|parameter| parameter.starts_with("artifactType=")) {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    response
}

/// A digest; none where it is a digest of another algorithm than all of ours.
fn parse_digest(text: &str) -> Result<Option<Digest>, Refusal> {
    if let Ok(digest) = text.parse() {
        return Ok(Some(digest));
    }
    let other = text.split_once(':').is_some_and(|(algorithm, encoded)| {
        let known = algorithm.starts_with(|first: char| first.is_ascii_lowercase());
        known && algorithm != "sha256" && !encoded.is_empty()
    });
    let wrong = || Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{text:?} is no digest"));
    if other { Ok(None) } else { Err(wrong()) }
}

fn respond(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// Adds the content's digest; what the asker has already is not sent again.
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
    fn paths_name_things() {
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
    fn digests_of_other_algorithms_are_unknown_and_no_digests_are_invalid() {
        let known = Digest::of(b"x").to_string();
        assert!(parse_digest(&known).is_ok_and(|digest| digest.is_some()));
        assert!(parse_digest("sha512:00").is_ok_and(|digest| digest.is_none()));
        for wrong in ["sha256:00", "sha512:", "x", ":", &known.to_uppercase()] {
            assert!(parse_digest(wrong).is_err_and(|refusal| refusal.code == "DIGEST_INVALID"), "{wrong}");
        }
    }
}
