//! A registry in this process: it stores blobs and manifests in memory, records requests, and can fail in chosen ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nixply_oci::{Digest, Manifest};
use serde_json::json;

use crate::content::body::Body;

/// A request, as the registry received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) size: usize,
    /// The header `Range`.
    pub(super) range: Option<String>,
}

/// An answer that replaces the registry's own.
pub(super) struct Instead {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    /// The body, if it is not text.
    pub(super) bytes: Bytes,
}

impl Instead {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), bytes: Bytes::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Returns an answer instead of the registry's own. The number counts the requests with this line, from 1.
type Fault = Box<dyn Fn(&Got, usize) -> Option<Instead> + Send + Sync>;

#[derive(Default)]
pub(super) struct State {
    pub(super) blobs: BTreeMap<Digest, usize>,
    /// Contents of the blobs.
    pub(super) contents: BTreeMap<Digest, Bytes>,
    pub(super) manifests: BTreeMap<String, Bytes>,
    pub(super) requests: Vec<Got>,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    pub(super) fn start() -> Self {
        Self::with(|_, _| None)
    }

    pub(super) fn with(fault: impl Fn(&Got, usize) -> Option<Instead> + Send + Sync + 'static) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (shared, fault): (_, Arc<Fault>) = (state.clone(), Arc::new(Box::new(fault)));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, fault) = (shared.clone(), fault.clone());
                let service = service_fn(move |request| answer(request, state.clone(), fault.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, _runtime: runtime }
    }

    /// Returns the lines of the requests since the last call.
    pub(super) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests).into_iter().map(|got| got.line).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    fault: Arc<Fault>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(&mut incoming), context)
    })
    .await
    {
        frame?.into_data().into_iter().for_each(|data| body.extend_from_slice(&data));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let range = head.headers.get("range").map(|value| value.to_str().unwrap().to_owned());
    let got = Got { line: format!("{} {path}", head.method), authorization, size: body.len(), range };
    let mut state = state.lock().unwrap();
    state.requests.push(got.clone());
    let nth = state.requests.iter().filter(|other| other.line == got.line).count();
    let made = fault(&got, nth).unwrap_or_else(|| own(&mut state, &got, &body));
    let mut response = Response::builder().status(made.status);
    for (name, value) in made.headers {
        response = response.header(name, value);
    }
    let body = if made.bytes.is_empty() { made.body.into() } else { made.bytes };
    Ok(response.body(Body::whole(body)).unwrap())
}

fn error(status: u16, code: &str) -> Instead {
    Instead { body: json!({"errors": [{"code": code, "message": "no"}]}).to_string(), ..Instead::new(status) }
}

/// The answer of a correct registry.
fn own(state: &mut State, got: &Got, body: &[u8]) -> Instead {
    let (method, path) = got.line.split_once(' ').unwrap();
    let last = path.rsplit('/').next().unwrap();
    match method {
        "HEAD" if path.contains("/blobs/") => {
            let there = state.blobs.contains_key(&last.parse().unwrap());
            if there { Instead::new(200) } else { Instead::new(404) }
        }
        "GET" if path.contains("/blobs/") => match state.contents.get(&last.parse().unwrap()) {
            None => error(404, "BLOB_UNKNOWN"),
            Some(content) => {
                let Some(range) = got.range.as_deref() else {
                    return Instead { bytes: content.clone(), ..Instead::new(200) };
                };
                let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let answer = Instead { bytes: content.slice(first..=last), ..Instead::new(206) };
                answer.with("Content-Range", format!("bytes {first}-{last}/{}", content.len()))
            }
        },
        "POST" => {
            let path = path.split('?').next().unwrap();
            Instead::new(202).with("Location", format!("{path}session?_state=a%20b"))
        }
        "PUT" if path.contains("/blobs/") => {
            let digest = Digest::of(body);
            if !path.ends_with(&format!("?_state=a%20b&digest={}", digest.to_string().replace(':', "%3A"))) {
                return error(400, "DIGEST_INVALID");
            }
            state.blobs.insert(digest, body.len());
            state.contents.insert(digest, Bytes::copy_from_slice(body));
            Instead::new(201)
        }
        "PUT" => {
            let manifest: Manifest = serde_json::from_slice(body).unwrap();
            let blobs: BTreeSet<Digest> =
                manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest).collect();
            if !blobs.iter().all(|digest| state.blobs.contains_key(digest)) {
                return error(404, "MANIFEST_BLOB_UNKNOWN");
            }
            let bytes = Bytes::copy_from_slice(body);
            state.manifests.insert(Digest::of(body).to_string(), bytes.clone());
            state.manifests.insert(last.into(), bytes);
            Instead::new(201)
        }
        _ => match state.manifests.get(last) {
            None => error(404, "MANIFEST_UNKNOWN"),
            Some(bytes) => {
                let body =
                    if method == "GET" { String::from_utf8(bytes.to_vec()).unwrap() } else { String::new() };
                Instead { body, ..Instead::new(200) }
                    .with("Docker-Content-Digest", Digest::of(bytes).to_string())
            }
        },
    }
}
