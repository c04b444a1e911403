//! Pushes an image with as few requests as possible: first the tag's manifest, then the blobs that it does not name, then the new
//! manifest. A reader of the tag gets the old image or the whole new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nixply_oci::{Digest, INDEX, MANIFEST, Manifest};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode, redirect};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::credentials::FindCredentials;
use super::location;
use super::reference::Reference;
use super::session::{Session, bytes};
use super::upload;
use crate::content::catalog::{Blob, Catalog, Document};
use crate::content::client_support::ClientSupport;
use crate::content::pack_queue::PackQueue;
use crate::content::{Image, Settings};
use crate::error::{Error, Result};

/// Header with the digest of a manifest (distribution-spec).
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Maximum number of concurrent requests to a registry.
const CONCURRENT: usize = 8;

/// Maximum time without any progress of a connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// The user's credentials.
    pub credentials: Arc<dyn FindCredentials>,
    /// Hosts, with ports, that speak plain HTTP. Loopback addresses and `localhost` always do.
    pub plain_http: Vec<String>,
    /// Value of the header `User-Agent`.
    pub user_agent: String,
}

/// A client of registries.
pub struct Client {
    http: reqwest::Client,
    options: Options,
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Whether the tag already had this manifest.
    pub unchanged: bool,
    /// Number of blobs that the repository lacked.
    pub sent: usize,
    /// Number of bytes of these blobs, including repeated tries.
    pub bytes: u64,
    /// Number of blobs that the repository had.
    pub there: usize,
    /// Number of HTTP requests.
    pub requests: u64,
}

impl Client {
    /// Makes a client.
    pub fn new(options: Options) -> Result<Self> {
        // An error means that the process already has a provider of cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(&options.user_agent)
            // HTTP/2's flow control slows down uploads.
            .http1_only()
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(STALL_TIMEOUT)
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http, options })
    }

    /// Pushes an image to a tag. The packer packs a layer only if its digest is unknown or the repository lacks it.
    pub fn push(&self, image: Image, settings: Settings, to: &Reference) -> Result<Pushed> {
        settings.check_scratch()?;
        let (name, tag) = (image.name().to_owned(), image.tag().to_owned());
        let catalog = Catalog::new(vec![image], &settings)?;
        let stop = Arc::new(AtomicBool::new(false));
        let queue = Arc::new(PackQueue::new(settings, stop));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(queue.threads() + CONCURRENT)
            .thread_name("nixply-push")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let credentials = self.options.credentials.find(&to.host, &to.repository)?;
        let session = Session::new(self.http.clone(), to.clone(), self.is_plain(to), credentials)?;
        let push = Push { session: Arc::new(session), queue, catalog: Arc::new(catalog) };
        runtime.block_on(async {
            let document = push.catalog.by_tag(&name, &tag, ClientSupport::ALL, &push.queue).await?;
            push.run(document.expect("the catalog has this image")).await
        })
    }

    fn is_plain(&self, to: &Reference) -> bool {
        location::is_this_machine(&to.host) || self.options.plain_http.contains(&to.host)
    }
}

/// A push of one image.
struct Push {
    session: Arc<Session>,
    queue: Arc<PackQueue>,
    catalog: Arc<Catalog>,
}

impl Push {
    async fn run(&self, document: Document) -> Result<Pushed> {
        let manifest: Manifest = serde_json::from_slice(&document.bytes).expect("it was made here");
        let blobs: BTreeSet<Digest> =
            manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest).collect();
        let current = self.current().await?;
        let mut result = Pushed {
            digest: document.digest,
            unchanged: current == Some(document.digest),
            sent: 0,
            bytes: 0,
            there: blobs.len(),
            requests: 0,
        };
        if !result.unchanged {
            let listed = match current {
                Some(digest) => self.listed(digest).await?,
                None => BTreeSet::new(),
            };
            let mut sent = self.send(blobs.difference(&listed).copied().collect()).await?;
            if !self.put(&document).await? {
                // The repository has lost a blob that the former manifest names.
                sent += self.send(blobs).await?;
                if !self.put(&document).await? {
                    return Err(Error::LostBlobs { reference: self.session.reference().to_string() });
                }
            }
            (result.sent, result.there) = (sent, result.there - sent.min(result.there));
        }
        result.bytes = self.queue.counters.counts().bytes();
        result.requests = self.session.requests();
        Ok(result)
    }

    /// Returns the digest of the tag's manifest, or `None` if the tag does not exist.
    async fn current(&self) -> Result<Option<Digest>> {
        let what = format!("look up the tag {}", self.session.reference().tag);
        let url = self.session.url(&format!("manifests/{}", self.session.reference().tag));
        let accept = format!("{MANIFEST}, {INDEX}");
        let answer = self
            .session
            .send(Method::HEAD, url, &what, async |request| Ok(request.header(ACCEPT, &accept)))
            .await?;
        match answer.status() {
            // Registries that create repositories on the first push, and those that hide missing ones.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            status if status.is_success() => {
                let digest = answer.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
                Ok(digest.and_then(|digest| digest.parse().ok()))
            }
            _ => Err(self.session.refused(&what, answer).await),
        }
    }

    /// Returns the digests of the blobs that a manifest of the repository names. They exist: a registry does not accept a manifest
    /// without its blobs.
    async fn listed(&self, digest: Digest) -> Result<BTreeSet<Digest>> {
        let what = format!("read the manifest {digest}");
        let url = self.session.url(&format!("manifests/{digest}"));
        let answer = self
            .session
            .send(Method::GET, url, &what, async |request| Ok(request.header(ACCEPT, MANIFEST)))
            .await?;
        if !answer.status().is_success() {
            return Ok(BTreeSet::new());
        }
        let Ok(text) = bytes(answer).await else { return Ok(BTreeSet::new()) };
        // Only a manifest with this digest says what the repository has. An index names no blobs.
        let manifest = (Digest::of(&text) == digest).then(|| serde_json::from_slice::<Manifest>(&text).ok());
        let blobs = manifest.flatten().map(|manifest| manifest.layers.into_iter().chain([manifest.config]));
        Ok(blobs.into_iter().flatten().map(|blob| blob.digest).collect())
    }

    /// Uploads those of the blobs that the repository lacks. Returns their number.
    async fn send(&self, blobs: BTreeSet<Digest>) -> Result<usize> {
        let permits = Arc::new(Semaphore::new(CONCURRENT));
        let mut tasks = JoinSet::new();
        let mut all: BTreeMap<Digest, Blob> = BTreeMap::new();
        for digest in blobs {
            all.insert(digest, self.catalog.blob(digest).expect("the manifest names blobs of the catalog"));
        }
        // The largest first: the last upload should be a short one.
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(_, blob)| std::cmp::Reverse(blob.size()));
        for (digest, blob) in all {
            let (session, queue, permits) = (self.session.clone(), self.queue.clone(), permits.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await.expect("the semaphore stays open");
                if upload::exists(&session, digest).await? {
                    return Ok(false);
                }
                upload::blob(&session, digest, &blob, &queue).await.map(|()| true)
            });
        }
        let mut sent = 0;
        while let Some(done) = tasks.join_next().await {
            // An error drops the other tasks, which ends their requests.
            sent += usize::from(done.map_err(|error| Error::Start(error.into()))??);
        }
        Ok(sent)
    }

    /// Writes the tag. Returns false if the registry lacks a blob.
    async fn put(&self, document: &Document) -> Result<bool> {
        let tag = &self.session.reference().tag;
        let what = format!("write the tag {tag}");
        let url = self.session.url(&format!("manifests/{tag}"));
        let answer = self
            .session
            .send(Method::PUT, url, &what, async |request| {
                let request =
                    request.header(CONTENT_TYPE, MANIFEST).header(CONTENT_LENGTH, document.bytes.len());
                Ok(request.body(document.bytes.clone()))
            })
            .await?;
        if answer.status().is_success() {
            return Ok(true);
        }
        match self.session.refused(&what, answer).await {
            Error::Refused { code: Some(code), .. }
                if code == "MANIFEST_BLOB_UNKNOWN" || code == "BLOB_UNKNOWN" =>
            {
                Ok(false)
            }
            error => Err(error),
        }
    }
}
