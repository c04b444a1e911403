//! Delivers one image to the tags of one repository, with as few requests as possible: first the tag's manifest, then the blobs that
//! it does not name, then the new manifest. A reader of the tag gets the old image or the whole new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use nixply_oci::{Digest, MANIFEST, Manifest, Platform};

use super::known::Homes;
use super::manifests::{self, Current, Found, Written};
use super::reference::Version;
use super::session::Session;
use super::upload::{self, SMALL, Upload, Uploaded};
use crate::content::catalog::{Blob, Catalog, Document, Documents};
use crate::content::client_support::ClientSupport;
use crate::content::layer_keys::LayerKeys;
use crate::content::pack_queue::PackQueue;
use crate::error::{Error, Result};

/// Maximum number of blobs that are uploaded, or wait for their packing, at the same time.
const MAX_BLOBS: usize = 16;

/// If the tag already has an image, and at most this many blobs are new, they are not looked up: the start of the upload tells whether the
/// repository has the blob. Registries without mounts do not tell it, and get the blob again.
const MAX_UNASKED_BLOBS: usize = 4;

/// Maximum size of such a blob.
const MAX_UNASKED: u64 = 32 << 20;

/// Maximum number of times that a manifest is written. Registries with several replicas may not see a new blob at once.
const MANIFEST_TRIES: u32 = 4;

/// A delivery of one image to one repository.
pub(super) struct Delivery<'d> {
    pub(super) session: &'d Session,
    pub(super) queue: &'d Arc<PackQueue>,
    pub(super) catalog: &'d Catalog,
    pub(super) homes: &'d Homes,
    /// The error of a layer that could not be packed or read.
    pub(super) failed: &'d Mutex<Option<Error>>,
    /// Whether nothing is written to the registry.
    pub(super) dry_run: bool,
}

/// The result of a delivery.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) digest: Digest,
    /// The tags that had this image already.
    pub(super) unchanged: BTreeSet<String>,
    /// The blobs by their fate.
    pub(super) sent: BTreeMap<Digest, u64>,
    pub(super) mounted: BTreeMap<Digest, u64>,
    pub(super) there: BTreeMap<Digest, u64>,
}

impl Delivered {
    fn new(digest: Digest) -> Self {
        let (sent, mounted, there) = Default::default();
        Self { digest, unchanged: BTreeSet::new(), sent, mounted, there }
    }
}

impl Delivery<'_> {
    /// Delivers the image `name:tag` of the catalog to these tags.
    pub(super) async fn run(
        &self,
        (name, tag): (&str, &str),
        tags: &[String],
        keys: &mut LayerKeys,
    ) -> Result<Delivered> {
        let known = match self.catalog.is_known() {
            true => Some(self.documents(name, tag).await?.top.digest),
            false => None,
        };
        let first = Version::Tag(tags[0].clone());
        let current = manifests::read(self.session, &first, known).await?;
        let mut there = There::default();
        if let Current::Other(old) = &current {
            self.learn(old, &manifests::reference(self.session, &first).to_string(), &mut there, keys)
                .await?;
        }
        self.catalog.learn(keys);
        let documents = self.documents(name, tag).await?;
        let document = &documents.top;
        let mut done = Delivered::new(document.digest);
        let rest = try_join_all(tags[1..].iter().map(async |tag| {
            let current =
                manifests::read(self.session, &Version::Tag(tag.clone()), Some(document.digest)).await?;
            Ok::<_, Error>((tag.clone(), matches!(current, Current::Known)))
        }))
        .await?;
        let is_first = match &current {
            Current::Known => true,
            Current::Other(old) => old.digest == document.digest,
            Current::Absent => false,
        };
        let all = [(tags[0].clone(), is_first)].into_iter().chain(rest);
        let (unchanged, changed): (Vec<_>, Vec<_>) = all.partition(|(_, is_known)| *is_known);
        done.unchanged = unchanged.into_iter().map(|(tag, _)| tag).collect();
        let blobs = self.blobs(documents)?;
        let sizes = |digest: &Digest| (*digest, blobs[digest].size());
        if changed.is_empty() {
            done.there = blobs.keys().map(sizes).collect();
            return Ok(done);
        }
        // A tag with this image shows that its blobs exist.
        let missing: BTreeMap<_, _> = match done.unchanged.is_empty() {
            true => blobs.iter().filter(|(digest, _)| !there.blobs.contains(digest)).collect(),
            false => BTreeMap::new(),
        };
        done.there = blobs.keys().filter(|digest| !missing.contains_key(digest)).map(sizes).collect();
        let is_similar = there.has_image && missing.len() <= MAX_UNASKED_BLOBS;
        let before = if is_similar { Before::Similar } else { Before::Unknown };
        self.send(missing, before, &mut done).await?;
        if self.dry_run {
            return Ok(done);
        }
        // The manifests of an index are written before it: a reader of the index needs them. Those that the repository has are written
        // too, as it checks the blobs of a manifest only when it receives it.
        for (child, _) in &documents.children {
            self.write(&Version::Digest(child.digest), child, &[], &blobs, &mut done).await?;
        }
        for (tag, _) in changed {
            self.write(&Version::Tag(tag), document, &documents.children, &blobs, &mut done).await?;
        }
        Ok(done)
    }

    async fn documents(&self, name: &str, tag: &str) -> Result<&Documents> {
        let documents = self.catalog.documents(name, tag, ClientSupport::ALL, self.queue).await?;
        Ok(documents.expect("the catalog has this image"))
    }

    /// Returns the blobs of an image, or of all images of an index.
    fn blobs(&self, documents: &Documents) -> Result<BTreeMap<Digest, Blob>> {
        let manifests = documents.all().filter(|document| document.media_type == MANIFEST);
        let mut blobs = BTreeMap::new();
        for document in manifests {
            let manifest: Manifest = serde_json::from_slice(&document.bytes).expect("it was made here");
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let there = self.catalog.blob(blob.digest).expect("it is a blob of the catalog");
                blobs.insert(blob.digest, there);
            }
        }
        Ok(blobs)
    }

    /// Takes from the old manifest or index which blobs and layers the repository has. They exist: a registry does not accept a manifest
    /// without its blobs.
    async fn learn(&self, old: &Found, source: &str, there: &mut There, keys: &mut LayerKeys) -> Result<()> {
        there.has_image = true;
        there.add(&old.bytes, source, keys);
        let children = manifests::children(self.session, old).await?;
        children.iter().for_each(|child| there.add(&child.bytes, source, keys));
        Ok(())
    }

    /// Uploads those of the blobs that the repository lacks.
    async fn send(
        &self,
        blobs: BTreeMap<&Digest, &Blob>,
        before: Before,
        done: &mut Delivered,
    ) -> Result<()> {
        // The largest first: the last upload should be a short one.
        let mut blobs: Vec<_> = blobs.into_iter().collect();
        blobs.sort_by_key(|(_, blob)| std::cmp::Reverse(blob.size()));
        let mut fates = stream::iter(blobs.into_iter().map(async |(digest, blob)| {
            let fate = self.send_one(*digest, blob, before).await?;
            Ok::<_, Error>((*digest, blob.size(), fate))
        }))
        .buffer_unordered(MAX_BLOBS);
        while let Some((digest, size, fate)) = fates.try_next().await? {
            let fates = match fate {
                Some(Uploaded::Sent) => &mut done.sent,
                Some(Uploaded::Mounted) => &mut done.mounted,
                None => &mut done.there,
            };
            fates.insert(digest, size);
        }
        Ok(())
    }

    /// Uploads a blob. Returns `None` if the repository has it.
    async fn send_one(&self, digest: Digest, blob: &Blob, before: Before) -> Result<Option<Uploaded>> {
        let repository = self.session.repository();
        let home = self.homes.get(&(repository.host.clone(), digest)).map(String::as_str);
        // A repository that has lost blobs is no home.
        let home = home.filter(|home| before != Before::Loss || *home != repository.name);
        let is_unasked = before == Before::Similar && blob.size() <= MAX_UNASKED && !self.dry_run;
        let source = match home {
            Some(home) if home != repository.name => Some(home),
            Some(_) => return Ok(None),
            None if is_unasked && blob.size() > SMALL => Some(repository.name.as_str()),
            None if is_unasked => None,
            None if upload::exists(self.session, digest).await? => return Ok(None),
            None => None,
        };
        if self.dry_run {
            return Ok(Some(if home.is_some() { Uploaded::Mounted } else { Uploaded::Sent }));
        }
        let upload =
            Upload { session: self.session, digest, blob, queue: self.queue, source, failed: self.failed };
        let uploaded = upload.run().await?;
        blob.release();
        let was_there = uploaded == Uploaded::Mounted && source == Some(repository.name.as_str());
        Ok((!was_there).then_some(uploaded))
    }

    /// Writes a manifest or an index. If the repository has lost blobs or manifests that the former one names, writes them again.
    async fn write(
        &self,
        version: &Version,
        document: &Document,
        children: &[(Document, Platform)],
        blobs: &BTreeMap<Digest, Blob>,
        done: &mut Delivered,
    ) -> Result<()> {
        for tries in 1..=MANIFEST_TRIES {
            if let Written::Yes = manifests::write(self.session, version, document).await? {
                return Ok(());
            }
            if tries > 1 {
                tokio::time::sleep(self.session.limits().first_delay * tries).await;
            }
            let mut again = Delivered::new(document.digest);
            self.send(blobs.iter().collect(), Before::Loss, &mut again).await?;
            for digest in again.sent.keys().chain(again.mounted.keys()) {
                done.there.remove(digest);
                done.sent.remove(digest);
                done.mounted.remove(digest);
            }
            done.sent.extend(again.sent);
            done.mounted.extend(again.mounted);
            for (child, _) in children {
                // If the repository does not see all blobs yet, the next try of the index fails.
                manifests::write(self.session, &Version::Digest(child.digest), child).await?;
            }
        }
        Err(Error::LostBlobs { reference: manifests::reference(self.session, version).to_string() })
    }
}

/// The state of a repository before blobs are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The repository may have any of the blobs.
    Unknown,
    /// The tag has an image that differs little.
    Similar,
    /// The registry reports missing blobs.
    Loss,
}

/// The content of a repository, as far as it is known.
#[derive(Debug, Default)]
struct There {
    blobs: BTreeSet<Digest>,
    /// Whether the tag has an image.
    has_image: bool,
}

impl There {
    /// Adds the blobs of a manifest. An index names none.
    fn add(&mut self, bytes: &[u8], source: &str, keys: &mut LayerKeys) {
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
            self.blobs.extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest));
            keys.add(&manifest, source);
        }
    }
}
