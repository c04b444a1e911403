//! A registry in this process: it keeps blobs and manifests in memory, records requests, and can fail in chosen ways.

mod http;
mod profile;
mod registry;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::Bytes;
use nixply_oci::Digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub(super) use self::profile::{Auth, Mount, Patch, Profile};
pub(super) use self::registry::{Blob, Registry, Stored};
pub(super) use self::service::TokenService;

/// The threads of all registries.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A request, as the registry received it.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<String>,
    pub(super) version: hyper::Version,
    /// Number of bytes that the header `Content-Length` announces.
    pub(super) size: usize,
    /// The header `Range`.
    pub(super) range: Option<String>,
}

impl Got {
    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.line.starts_with(&format!("{method} ")) && self.line.contains(part)
    }

    /// Returns whether the request sends a blob to an upload session.
    pub(super) fn is_blob_put(&self) -> bool {
        self.is("PUT", "/blobs/")
    }

    pub(super) fn is_manifest_put(&self) -> bool {
        self.is("PUT", "/manifests/")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
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

    /// Returns an error of the distribution specification.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self { body, ..Self::new(status) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How a registry treats a request.
pub(super) enum Act {
    /// Correctly, within its profile.
    Own,
    /// Gives this answer, and does nothing.
    Instead(Instead),
    /// Closes the connection before it reads the body.
    DropBefore,
    /// Does as requested, then closes the connection without an answer.
    DropAfter,
    /// Does as requested, and closes the connection in the middle of the answer.
    Truncate,
    /// Does as requested, and answers after this time.
    Stall(Duration),
    /// Does as requested, twice.
    Twice,
    /// Accepts the blob, and loses it.
    Lose,
    /// Does as requested; a new blob stays unknown for this many requests about it.
    Hide(u32),
}

/// Decides how a request is treated. The number counts the requests with this line, from 1.
type Decide = dyn Fn(&Got, usize) -> Act + Send + Sync;

pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) requests: Vec<Got>,
    /// Bodies of forms.
    pub(super) forms: Vec<String>,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// The parts of a registry that its connections share.
#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    decide: Arc<Decide>,
}

impl Fake {
    pub(super) fn start() -> Self {
        Self::of(Profile::default())
    }

    /// Starts a registry with these quirks.
    pub(super) fn of(profile: Profile) -> Self {
        Self::new(profile, |_, _| Act::Own)
    }

    /// Starts a registry whose answers to some requests are given.
    pub(super) fn with(instead: impl Fn(&Got, usize) -> Option<Instead> + Send + Sync + 'static) -> Self {
        Self::of_with(Profile::default(), instead)
    }

    pub(super) fn of_with(
        profile: Profile,
        instead: impl Fn(&Got, usize) -> Option<Instead> + Send + Sync + 'static,
    ) -> Self {
        Self::new(profile, move |got, nth| instead(got, nth).map_or(Act::Own, Act::Instead))
    }

    pub(super) fn new(profile: Profile, decide: impl Fn(&Got, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::listen(profile, decide, None)
    }

    /// Starts a registry with encrypted connections.
    pub(super) fn encrypted(profile: Profile) -> Self {
        Self::listen(profile, |_, _| Act::Own, Some(acceptor()))
    }

    fn listen(
        profile: Profile,
        decide: impl Fn(&Got, usize) -> Act + Send + Sync + 'static,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { registry: Registry::new(profile), requests: Vec::new(), forms: Vec::new() };
        let shared = Shared { state: Arc::new(Mutex::new(state)), decide: Arc::new(decide) };
        let state = shared.state.clone();
        let task = RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => http::connection(stream, shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                http::connection(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, task }
    }

    /// Returns the lines of the requests since the last call.
    pub(super) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|got| got.line).collect()
    }

    /// Returns the requests since the last call.
    pub(super) fn requests(&self) -> Vec<Got> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Returns the blobs of a repository.
    pub(super) fn contents(&self, name: &str) -> BTreeMap<Digest, Bytes> {
        let bytes = |(digest, blob): (&Digest, &Blob)| (*digest, blob.bytes.clone());
        self.change(|registry| registry.repository(name).blobs.iter().map(bytes).collect())
    }

    /// Replaces the bytes of a blob.
    pub(super) fn replace(&self, name: &str, digest: Digest, bytes: impl Into<Bytes>) {
        let blob = Blob::new(bytes.into());
        self.change(|registry| registry.repository(name).blobs.insert(digest, blob));
    }

    /// Returns the manifest of a tag.
    pub(super) fn manifest(&self, name: &str, tag: &str) -> Bytes {
        self.change(|registry| {
            let stored = registry.repository(name);
            stored.manifests[&stored.tags[tag]].clone()
        })
    }

    /// Changes the content or the profile.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        change(&mut self.state.lock().unwrap().registry)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The authority that has signed the certificate of encrypted registries, for the address 127.0.0.1.
pub(super) const AUTHORITY: &[u8] = include_bytes!("tls/ca.pem");

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}
