//! A registry that follows the distribution specification within its profile. It checks all that a real one checks: digests, ranges,
//! sessions, lengths, and that the blobs of a manifest exist.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use nixply_oci::{Digest, INDEX, ImageIndex, MANIFEST, Manifest};
use percent_encoding::percent_decode_str;

use super::profile::{Auth, Mount, Patch, Profile};
use super::{Got, Instead};

/// The registry's content.
pub(in crate::client::tests) struct Registry {
    pub(in crate::client::tests) profile: Profile,
    pub(in crate::client::tests) repositories: BTreeMap<String, Stored>,
    sessions: BTreeMap<String, Session>,
    next: usize,
}

/// The content of a repository.
#[derive(Clone, Default)]
pub(in crate::client::tests) struct Stored {
    pub(in crate::client::tests) blobs: BTreeMap<Digest, Blob>,
    pub(in crate::client::tests) manifests: BTreeMap<Digest, Bytes>,
    pub(in crate::client::tests) tags: BTreeMap<String, Digest>,
}

#[derive(Clone)]
pub(in crate::client::tests) struct Blob {
    pub(in crate::client::tests) bytes: Bytes,
    /// Number of requests about the blob that do not see it yet.
    hidden: u32,
}

/// An upload session.
struct Session {
    repository: String,
    bytes: Vec<u8>,
    patches: usize,
}

/// What happens to a new blob.
#[derive(Debug, Clone, Copy)]
pub(super) enum Landing {
    /// It exists.
    Seen,
    /// It is lost.
    Lost,
    /// It stays unknown for this many requests about it.
    Hidden(u32),
}

impl Blob {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, hidden: 0 }
    }
}

impl Stored {
    /// Returns whether a blob exists, for a request about it.
    fn sees(&mut self, digest: &Digest) -> bool {
        match self.blobs.get_mut(digest) {
            Some(blob) if blob.hidden > 0 => {
                blob.hidden -= 1;
                false
            }
            found => found.is_some(),
        }
    }

    /// Returns the image or index of a tag, if the tag has one. Panics if a part of it is absent or wrong.
    pub(in crate::client::tests) fn image(&self, tag: &str) -> Option<Digest> {
        let digest = *self.tags.get(tag)?;
        self.assert_whole(tag, digest);
        Some(digest)
    }

    fn assert_whole(&self, tag: &str, digest: Digest) {
        let bytes =
            self.manifests.get(&digest).unwrap_or_else(|| panic!("{tag} lacks the manifest {digest}"));
        assert_eq!(Digest::of(bytes), digest);
        let manifest = match Parsed::of(bytes) {
            Parsed::Manifest(manifest) => manifest,
            Parsed::Index(index) => {
                index.manifests.iter().for_each(|child| self.assert_whole(tag, child.digest));
                return;
            }
        };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let stored =
                self.blobs.get(&blob.digest).unwrap_or_else(|| panic!("{tag} lacks {}", blob.digest));
            assert_eq!((Digest::of(&stored.bytes), stored.bytes.len() as u64), (blob.digest, blob.size));
        }
    }

    /// Deletes the manifests that no tag has, itself or in its index, and the blobs that no other manifest names.
    pub(in crate::client::tests) fn collect(&mut self) {
        let mut kept: Vec<Digest> = self.tags.values().copied().collect();
        let tagged = kept.iter().filter_map(|digest| self.manifests.get(digest));
        let children = tagged.flat_map(|bytes| Parsed::of(bytes).children());
        kept.extend(children.collect::<Vec<_>>());
        self.manifests.retain(|digest, _| kept.contains(digest));
        let named = self.named();
        self.blobs.retain(|digest, _| named.contains(digest));
    }

    /// Returns the digests of the blobs that manifests name.
    pub(in crate::client::tests) fn named(&self) -> Vec<Digest> {
        self.manifests.values().flat_map(|bytes| Parsed::of(bytes).blobs()).collect()
    }
}

/// A document of a tag.
enum Parsed {
    Manifest(Manifest),
    Index(ImageIndex),
}

impl Parsed {
    /// Parses a document that the registry has accepted.
    fn of(bytes: &[u8]) -> Self {
        Self::read(bytes).expect("the registry refuses other documents")
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        match value["mediaType"].as_str()? {
            MANIFEST => serde_json::from_slice(bytes).ok().map(Self::Manifest),
            INDEX => serde_json::from_slice(bytes).ok().map(Self::Index),
            _ => None,
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::Manifest(_) => MANIFEST,
            Self::Index(_) => INDEX,
        }
    }

    fn blobs(&self) -> Vec<Digest> {
        match self {
            Self::Manifest(manifest) => digests(manifest).collect(),
            Self::Index(_) => Vec::new(),
        }
    }

    fn children(&self) -> Vec<Digest> {
        match self {
            Self::Manifest(_) => Vec::new(),
            Self::Index(index) => index.manifests.iter().map(|child| child.digest).collect(),
        }
    }
}

fn digests(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest)
}

/// A path below `/v2/`.
enum Target<'t> {
    Manifest(&'t str),
    Blob(Digest),
    Uploads,
    Session(&'t str),
}

impl Registry {
    pub(super) fn new(profile: Profile) -> Self {
        Self { profile, repositories: BTreeMap::new(), sessions: BTreeMap::new(), next: 0 }
    }

    /// Returns a repository's content.
    pub(in crate::client::tests) fn repository(&mut self, name: &str) -> &mut Stored {
        self.repositories.entry(name.into()).or_default()
    }

    pub(super) fn answer(&mut self, got: &Got, body: &[u8], landing: Landing) -> Instead {
        let (method, rest) = got.line.split_once(' ').unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let Some((name, target)) = parse(path) else { return Instead::new(404) };
        let mut rights = vec![(name, if matches!(method, "GET" | "HEAD") { "pull" } else { "push" })];
        rights.extend(query.get("from").map(|source| (source.as_str(), "pull")));
        if let Some(refusal) = self.refusal(got, &rights) {
            return refusal;
        }
        if matches!(method, "POST" | "PUT" | "PATCH") && got.headers.get("content-length").is_none() {
            return Instead::new(411);
        }
        if self.profile.body_limit.is_some_and(|limit| body.len() > limit) {
            return Instead::new(413);
        }
        if self.profile.repositories.as_ref().is_some_and(|all| !all.contains(name)) {
            let message = format!("The repository with name '{name}' does not exist in the registry");
            return Instead::error(404, "NAME_UNKNOWN", &message);
        }
        match (method, target) {
            ("HEAD" | "GET", Target::Blob(digest)) => {
                let stored = self.repository(name);
                match stored.sees(&digest) {
                    true if method == "GET" => part(&stored.blobs[&digest].bytes, got),
                    true => Instead::new(200),
                    false => Instead::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
                }
            }
            ("HEAD" | "GET", Target::Manifest(reference)) => self.read_manifest(name, reference, got),
            ("PUT", Target::Manifest(reference)) => self.write_manifest(name, reference, got, body),
            ("POST", Target::Uploads) => self.start(name, &query, body, landing),
            ("PATCH", Target::Session(id)) => self.patch(name, id, &query, got, body),
            ("PUT", Target::Session(id)) => self.finish(name, id, &query, body, landing),
            _ => Instead::new(405),
        }
    }

    fn refusal(&self, got: &Got, rights: &[(&str, &str)]) -> Option<Instead> {
        let authorization = got.authorization.as_deref();
        let challenge = match &self.profile.auth {
            Auth::None => return None,
            Auth::Basic(user) if authorization == Some(user) => return None,
            Auth::Basic(_) => "Basic realm=\"r\"".into(),
            Auth::Bearer(service) if service.allows(authorization, rights) => return None,
            Auth::Bearer(service) => service.challenge(),
        };
        let answer = Instead::error(401, "UNAUTHORIZED", "authentication required");
        Some(answer.with("WWW-Authenticate", challenge))
    }

    fn read_manifest(&mut self, name: &str, reference: &str, got: &Got) -> Instead {
        let stored = self.repository(name);
        let digest = stored.tags.get(reference).copied().or_else(|| reference.parse().ok());
        let Some((digest, bytes)) = digest.and_then(|digest| Some((digest, stored.manifests.get(&digest)?)))
        else {
            return Instead::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        if got.header("if-none-match") == Some(format!("\"{digest}\"").as_str()) {
            return Instead::new(304);
        }
        let media_type = Parsed::of(bytes).media_type();
        let is_get = got.line.starts_with("GET");
        let body = if is_get { String::from_utf8(bytes.to_vec()).unwrap() } else { String::new() };
        Instead { body, ..Instead::new(200) }
            .with("Docker-Content-Digest", digest.to_string())
            .with("Content-Type", media_type)
    }

    fn write_manifest(&mut self, name: &str, reference: &str, got: &Got, body: &[u8]) -> Instead {
        let Some(parsed) = Parsed::read(body) else {
            return Instead::error(400, "MANIFEST_INVALID", "manifest invalid");
        };
        let media_type = got.header("content-type").unwrap_or_default();
        if media_type != parsed.media_type() || !self.profile.takes_oci {
            return Instead::error(400, "MANIFEST_INVALID", &format!("unsupported type {media_type}"));
        }
        let (immutable, names_places) = (self.profile.immutable_tags, self.profile.names_places);
        let stored = self.repository(name);
        if !parsed.blobs().iter().all(|digest| stored.sees(digest)) {
            return Instead::error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
        }
        if !parsed.children().iter().all(|digest| stored.manifests.contains_key(digest)) {
            return Instead::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        }
        if let Parsed::Manifest(manifest) = &parsed {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let stored = stored.blobs.get_mut(&blob.digest).unwrap();
                assert_eq!(stored.bytes.len() as u64, blob.size);
                // All replicas know it now.
                stored.hidden = 0;
            }
        }
        let digest = Digest::of(body);
        if let Ok(named) = reference.parse::<Digest>() {
            if named != digest {
                return Instead::error(400, "DIGEST_INVALID", "digest invalid");
            }
        } else if immutable && stored.tags.contains_key(reference) {
            let message = format!("The image tag '{reference}' already exists and cannot be overwritten");
            return Instead::error(400, "TAG_INVALID", &message);
        } else {
            stored.tags.insert(reference.into(), digest);
        }
        stored.manifests.insert(digest, Bytes::copy_from_slice(body));
        let answer = Instead::new(201);
        match names_places {
            true => answer
                .with("Location", format!("/v2/{name}/manifests/{digest}"))
                .with("Docker-Content-Digest", digest.to_string()),
            false => answer,
        }
    }

    fn start(
        &mut self,
        name: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
        landing: Landing,
    ) -> Instead {
        if let Some(digest) = query.get("mount") {
            let digest: Digest = digest.parse().unwrap();
            let Some(from) = query.get("from") else {
                return Instead::error(400, "UNSUPPORTED", "mount without from");
            };
            if let Mount::Fails(status) = self.profile.mount {
                return Instead::error(status, "UNSUPPORTED", "no mounts");
            }
            let is_committed =
                self.profile.mount == Mount::Any || self.repository(from).named().contains(&digest);
            let bytes = self.repository(from).blobs.get(&digest).map(|blob| blob.bytes.clone());
            if let Some(bytes) = bytes.filter(|_| is_committed && self.profile.mount != Mount::Never) {
                self.repository(name).blobs.entry(digest).or_insert(Blob { bytes, hidden: 0 });
                return Instead::new(201).with("Location", format!("/v2/{name}/blobs/{digest}"));
            }
        } else if let Some(digest) = query.get("digest").filter(|_| self.profile.single_post) {
            return self.store(name, digest, body.to_vec(), landing);
        }
        self.next += 1;
        let id = self.next.to_string();
        let session = Session { repository: name.into(), bytes: Vec::new(), patches: 0 };
        self.sessions.insert(id.clone(), session);
        self.at(&id, 202)
    }

    /// Returns the answer that names the place of a session. Its state has characters that need encoding.
    fn at(&self, id: &str, status: u16) -> Instead {
        let Session { repository, patches, .. } = &self.sessions[id];
        let origin = self.profile.origin;
        let place = format!("{origin}/v2/{repository}/blobs/uploads/{id}?_state=a%20b%2B{patches}");
        let answer = Instead::new(status).with("Location", place);
        match self.profile.least_chunk {
            Some(least) => answer.with("OCI-Chunk-Min-Length", least.to_string()),
            None => answer,
        }
    }

    /// Checks that a session exists, and that the request goes to the place that its last answer named.
    fn session(
        &mut self,
        name: &str,
        id: &str,
        query: &BTreeMap<String, String>,
    ) -> Result<&mut Session, Instead> {
        let unknown = Instead::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        let session =
            self.sessions.get_mut(id).filter(|session| session.repository == name).ok_or(unknown)?;
        match query.get("_state") == Some(&format!("a b+{}", session.patches)) {
            true => Ok(session),
            false => Err(Instead::error(400, "BLOB_UPLOAD_INVALID", "wrong state")),
        }
    }

    fn patch(
        &mut self,
        name: &str,
        id: &str,
        query: &BTreeMap<String, String>,
        got: &Got,
        body: &[u8],
    ) -> Instead {
        let Profile { patch, least_chunk, .. } = self.profile.clone();
        let session = match self.session(name, id, query) {
            Ok(session) => session,
            Err(answer) => return answer,
        };
        let before = session.bytes.len();
        let mut end = before + body.len();
        if let Some(range) = got.header("content-range") {
            if matches!(patch, Patch::Overwrites(limit) if body.len() > limit) {
                return Instead::new(416);
            }
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let is_next = matches!(patch, Patch::Overwrites(_) | Patch::DropsLater) || first == before;
            if !is_next || last + 1 - first != body.len() {
                return Instead::error(416, "BLOB_UPLOAD_INVALID", "wrong range");
            }
            end = last + 1;
        }
        if session.patches > 0 && least_chunk.is_some_and(|least| before / session.patches < least) {
            return Instead::error(400, "BLOB_UPLOAD_INVALID", "a chunk was too small");
        }
        match patch {
            Patch::Refused => return Instead::error(405, "UNSUPPORTED", "no chunks"),
            Patch::DropsLater if session.patches > 0 => {}
            Patch::Overwrites(_) => session.bytes = body.to_vec(),
            Patch::Appends | Patch::DropsLater => session.bytes.extend_from_slice(body),
        }
        session.patches += 1;
        let status = if patch == Patch::DropsLater { 201 } else { 202 };
        self.at(id, status).with("Range", format!("0-{}", end.saturating_sub(1)))
    }

    fn finish(
        &mut self,
        name: &str,
        id: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
        landing: Landing,
    ) -> Instead {
        let whole_put = self.profile.whole_put;
        let session = match self.session(name, id, query) {
            Ok(session) => session,
            Err(answer) => return answer,
        };
        if !whole_put && session.patches == 0 {
            self.sessions.remove(id);
            return Instead::new(404);
        }
        session.bytes.extend_from_slice(body);
        let bytes = std::mem::take(&mut session.bytes);
        self.sessions.remove(id);
        self.store(name, query.get("digest").map_or("", String::as_str), bytes, landing)
    }

    fn store(&mut self, name: &str, digest: &str, bytes: Vec<u8>, landing: Landing) -> Instead {
        let found = Digest::of(&bytes);
        if digest != found.to_string() {
            return Instead::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        let (status, names_places) = (self.profile.stored, self.profile.names_places);
        let hidden = if let Landing::Hidden(requests) = landing { requests } else { 0 };
        if !matches!(landing, Landing::Lost) {
            self.repository(name).blobs.entry(found).or_insert(Blob { bytes: bytes.into(), hidden });
        }
        let answer = Instead::new(status);
        match names_places {
            true => answer.with("Location", format!("/v2/{name}/blobs/{found}")),
            false => answer,
        }
    }
}

/// Returns the requested part of a blob.
fn part(bytes: &Bytes, got: &Got) -> Instead {
    let Some(range) = &got.range else { return Instead { bytes: bytes.clone(), ..Instead::new(200) } };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let answer = Instead { bytes: bytes.slice(first..=last), ..Instead::new(206) };
    answer.with("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
}

/// Returns the repository and the target of a path.
fn parse(path: &str) -> Option<(&str, Target<'_>)> {
    let path = path.strip_prefix("/v2/")?;
    if let Some((name, reference)) = path.split_once("/manifests/") {
        return Some((name, Target::Manifest(reference)));
    }
    let (name, rest) = path.split_once("/blobs/")?;
    let target = match rest.strip_prefix("uploads/") {
        Some("") => Target::Uploads,
        Some(id) => Target::Session(id),
        None => Target::Blob(percent_decode_str(rest).decode_utf8().ok()?.parse().ok()?),
    };
    Some((name, target))
}
