//! Small images, and clients that push them without long delays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use nixply_oci::{Digest, Manifest};
use nixply_packer::image::{IndexSpec, IndexedImage};
use nixply_packer::{Control, ImageRequest, ImageSpec, Packer, Packing};
use nixply_planning::{Closure, Store};
use reqwest::redirect::Policy;
use serde_json::json;
use tempfile::TempDir;

use super::fake::{Fake, Got};
use crate::client::http::Host;
use crate::client::limits::Limits;
use crate::client::{Client, Credentials, FindCredentials, Options, Push, Pushed, Reference};
use crate::content::{Compression, Image, Observer, Settings};
use crate::error::Result;
use crate::server::tests::fixture::{Fixture, noise};

/// The store paths. The first two become layers that are too large for a request with their digest.
pub(super) const PATHS: [&str; 7] = ["a", "b", "c", "d", "f", "g", "h"];

/// A store with small paths.
pub(super) struct Images {
    directory: TempDir,
}

impl Images {
    pub(super) fn new() -> Self {
        let images = Self { directory: tempfile::tempdir().unwrap() };
        for (at, name) in PATHS.iter().enumerate() {
            let path = images.store().real_file(&Fixture::path(name));
            fs::create_dir_all(&path).unwrap();
            let size = if at < 2 { 150_000 } else { 1000 };
            fs::write(path.join("data"), noise(at as u32 + 1, size)).unwrap();
        }
        images
    }

    fn store(&self) -> Store {
        let mut store = Store::at("/nix/store");
        store.real_dir = self.directory.path().join("store");
        store
    }

    /// An image with one layer for each path, and a variable of its environment.
    pub(super) fn spec(&self, paths: &[&str], variable: &str) -> ImageSpec {
        let paths: Vec<String> = paths.iter().map(|name| Fixture::path(name)).collect();
        let hash = format!("sha256:{}", "0".repeat(64));
        let info = |path| json!({"path": path, "narHash": hash, "narSize": 1000, "references": []});
        let infos: Vec<_> = paths.iter().map(info).collect();
        let closure = Closure::from_json(&json!(infos).to_string()).unwrap();
        let layers: Vec<_> = paths.iter().map(|path| json!({"deps": [path]})).collect();
        let request = json!({
            "layers": layers, "arch": "amd64", "compression": "zstd:1",
            "config": {"Env": [format!("VARIABLE={variable}")]},
        });
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let stop = Default::default();
        let (control, packer) = (Control::new(&stop, &()), Packer::new(1));
        request.build(&closure, &Packing::new(&self.store(), &packer, &control)).unwrap().spec
    }

    /// An image with two layers of about 80 kB.
    pub(super) fn large(&self) -> ImageSpec {
        self.spec(&["a", "b"], "large")
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            compression: Compression::Recorded("gzip".parse().unwrap()),
            scratch: self.directory.path().into(),
            threads: 1,
            ..Settings::new(self.store())
        }
    }

    /// Pushes an image to references without a host.
    pub(super) fn push(
        &self,
        client: &Client,
        fake: &Fake,
        spec: &ImageSpec,
        to: &[&str],
    ) -> Result<Vec<Pushed>> {
        self.push_with(client, fake, spec, to, None, Arc::new(()))
    }

    pub(super) fn push_with(
        &self,
        client: &Client,
        fake: &Fake,
        spec: &ImageSpec,
        to: &[&str],
        cache_to: Option<&str>,
        observer: Arc<dyn Observer>,
    ) -> Result<Vec<Pushed>> {
        self.push_any(client, fake, &Content::of(spec), to, cache_to, observer)
    }

    /// Pushes an image or an index to references without a host.
    pub(super) fn push_content(
        &self,
        client: &Client,
        fake: &Fake,
        content: &Content,
        to: &[&str],
    ) -> Result<Vec<Pushed>> {
        self.push_any(client, fake, content, to, None, Arc::new(()))
    }

    fn push_any(
        &self,
        client: &Client,
        fake: &Fake,
        content: &Content,
        to: &[&str],
        cache_to: Option<&str>,
        observer: Arc<dyn Observer>,
    ) -> Result<Vec<Pushed>> {
        let references = to.iter().map(|to| at(fake, to)).collect::<Result<Vec<_>>>()?;
        let cache_to = cache_to.map(|to| at(fake, to)).transpose()?;
        self.push_to(client, content, references, cache_to, observer)
    }

    /// Pushes an image or an index to any registry.
    pub(super) fn push_to(
        &self,
        client: &Client,
        content: &Content,
        to: Vec<Reference>,
        cache_to: Option<Reference>,
        observer: Arc<dyn Observer>,
    ) -> Result<Vec<Pushed>> {
        let image = content.image.clone();
        let content = Settings { observer, ..self.settings() };
        let mut all = Vec::new();
        client.push(Push { image, to, content, cache_to, dry_run: false }, &mut |pushed| all.push(pushed))?;
        Ok(all)
    }
}

/// An image or an image index to push.
pub(super) struct Content {
    image: Image,
    /// Digest of the manifest or the index.
    pub(super) digest: Digest,
    /// Number of different blobs.
    pub(super) blobs: usize,
    /// Number of images in the index.
    pub(super) children: usize,
}

impl Content {
    pub(super) fn of(spec: &ImageSpec) -> Self {
        let image = Image::new("image", "t", spec.clone()).unwrap();
        Self { image, digest: digest(spec), blobs: blobs(&[spec]), children: 0 }
    }

    /// Returns an index of these images, each for another architecture.
    pub(super) fn of_index(specs: &[ImageSpec]) -> Self {
        let indexed = specs.iter().zip(["amd64", "arm64", "riscv64"]).map(|(spec, arch)| {
            let mut spec = spec.clone();
            spec.arch = arch.into();
            IndexedImage { spec, annotations: BTreeMap::new() }
        });
        let spec = IndexSpec::new(indexed.collect(), BTreeMap::new(), |at| at.to_string()).unwrap();
        let manifests: Vec<_> = spec.images.iter().map(|image| image.spec.manifest()).collect();
        let digest = Digest::of(&nixply_documents::go_json::compact(&spec.index(&manifests)));
        let blobs = blobs(&spec.images.iter().map(|image| &image.spec).collect::<Vec<_>>());
        let children = spec.images.len();
        Self { image: Image::of_index("image", "t", spec).unwrap(), digest, blobs, children }
    }
}

/// Returns the number of different blobs of images.
fn blobs(specs: &[&ImageSpec]) -> usize {
    let layers = specs.iter().flat_map(|spec| spec.layers.iter().map(|layer| layer.digest));
    let configs = specs.iter().map(|spec| Digest::of(&spec.config_blob()));
    layers.chain(configs).collect::<BTreeSet<_>>().len()
}

/// Returns a reference to a tag of the registry.
pub(super) fn at(fake: &Fake, reference: &str) -> Result<Reference> {
    format!("{}/{reference}", fake.address).parse()
}

/// Returns the digest of an image's manifest.
pub(super) fn digest(spec: &ImageSpec) -> Digest {
    Digest::of(&nixply_documents::go_json::compact(&spec.manifest()))
}

/// Asserts that a tag is whole and has this image.
pub(super) fn assert_has(fake: &Fake, reference: &str, spec: &ImageSpec) {
    let (name, tag) = reference.split_once(':').unwrap();
    assert_eq!(
        fake.change(|registry| registry.repository(name).image(tag)),
        Some(digest(spec)),
        "{reference}"
    );
}

/// Asserts that a tag is whole and has this image or index.
pub(super) fn assert_has_content(fake: &Fake, reference: &str, content: &Content) {
    let (name, tag) = reference.split_once(':').unwrap();
    let found = fake.change(|registry| registry.repository(name).image(tag));
    assert_eq!(found, Some(content.digest), "{reference}");
}

/// Asserts that a repository has no tag, and only blobs with the right bytes.
pub(super) fn assert_no_image(fake: &Fake, name: &str) {
    fake.change(|registry| {
        let stored = registry.repository(name);
        assert!(stored.tags.is_empty() && stored.manifests.is_empty());
        assert!(stored.blobs.iter().all(|(digest, blob)| Digest::of(&blob.bytes) == *digest));
    });
}

/// Returns the stored manifest of a tag.
pub(super) fn manifest(fake: &Fake, reference: &str) -> (serde_json::Value, Manifest) {
    let (name, tag) = reference.split_once(':').unwrap();
    let bytes = fake.change(|registry| {
        let stored = registry.repository(name);
        stored.manifests[&stored.tags[tag]].clone()
    });
    (serde_json::from_slice(&bytes).unwrap(), serde_json::from_slice(&bytes).unwrap())
}

/// Limits with delays of a few milliseconds.
pub(super) fn limits() -> Limits {
    Limits {
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(4),
        max_requested_delay: Duration::from_millis(4),
        chunk: 16 << 10,
        ..Limits::default()
    }
}

/// A user with credentials for all repositories.
struct User(Credentials);

impl FindCredentials for User {
    fn find(&self, _host: &str, _repository: &str) -> Result<Option<Credentials>> {
        Ok(Some(self.0.clone()))
    }
}

pub(super) const PASSWORD: &str = "pass:word";

/// The header of the user `user` with [`PASSWORD`].
pub(super) const BASIC: &str = "Basic dXNlcjpwYXNzOndvcmQ=";

/// A client without credentials.
pub(super) fn anonymous() -> Client {
    client_with(Arc::new(()), limits())
}

/// A client of the user `user`.
pub(super) fn user() -> Client {
    as_user("user", PASSWORD)
}

pub(super) fn as_user(user: &str, password: &str) -> Client {
    with_credentials(Credentials::Basic { user: user.into(), password: password.into() })
}

pub(super) fn with_credentials(credentials: Credentials) -> Client {
    client_with(Arc::new(User(credentials)), limits())
}

pub(super) fn user_with(limits: Limits) -> Client {
    let credentials = Credentials::Basic { user: "user".into(), password: PASSWORD.into() };
    client_with(Arc::new(User(credentials)), limits)
}

pub(super) fn client_with(credentials: Arc<dyn FindCredentials>, limits: Limits) -> Client {
    let (tls, plain_http) = (Arc::new(()), Vec::new());
    Client::with_limits(Options { credentials, tls, plain_http, user_agent: "nixply/test".into() }, limits)
}

/// Saves a client the time to read the system's certificates: it does not need them for this registry.
pub(super) fn without_certificates(client: Client, fake: &Fake) -> Client {
    let http = reqwest::Client::builder().http1_only().redirect(Policy::none()).tls_certs_only(Vec::new());
    let host = Host {
        http: http.build().unwrap(),
        is_plain: true,
        plain_hosts: Default::default(),
        paces: Arc::default(),
    };
    client.hosts.lock().unwrap().insert(fake.address.to_string(), host);
    client
}

/// Returns the number of requests of each kind.
pub(super) fn kinds(requests: &[Got]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for got in requests {
        let kind = match got.line.split_once(' ').unwrap() {
            ("GET", path) if path.contains("/manifests/") => "GET manifest",
            ("HEAD", path) if path.contains("/manifests/") => "HEAD manifest",
            ("PUT", path) if path.contains("/manifests/") => "PUT manifest",
            ("POST", path) if path.contains("mount=") => "POST mount",
            ("POST", path) if path.contains("digest=") => "POST blob",
            ("POST", _) => "POST",
            ("PUT", _) => "PUT blob",
            ("PATCH", _) => "PATCH",
            ("HEAD", _) => "HEAD blob",
            ("GET", _) => "GET blob",
            _ => "other",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// The requests of the first push of [`Images::large`] to a repository without images, on a registry without quirks.
pub(super) fn plain_push() -> BTreeMap<&'static str, usize> {
    [
        ("GET manifest", 1),
        ("HEAD blob", 3),
        ("POST", 2),
        ("POST blob", 1),
        ("PUT blob", 2),
        ("PUT manifest", 1),
    ]
    .into()
}

/// Returns numbers of requests with some of them changed. 0 removes a kind.
pub(super) fn but(
    mut kinds: BTreeMap<&'static str, usize>,
    changes: &[(&'static str, usize)],
) -> BTreeMap<&'static str, usize> {
    kinds.extend(changes.iter().copied());
    kinds.retain(|_, number| *number > 0);
    kinds
}
