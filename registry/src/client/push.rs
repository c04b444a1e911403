//! Pushes images to tags of registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use nixply_oci::{Digest, Manifest};
use nixply_packer::{LayerKey, PackedLayer};

use super::delivery::Delivery;
use super::frames::{self, Frames};
use super::http::Client;
use super::known::{Homes, Known};
use super::manifests::Current;
use super::reference::{Reference, Repository, Version};
use super::session::Access;
use super::{blob, manifests, upload};
use crate::content::catalog::Catalog;
use crate::content::layer_keys;
use crate::content::pack_queue::PackQueue;
use crate::content::{Image, Settings};
use crate::error::{Error, Result};

/// Maximum number of repositories that one token may name as sources of blobs.
const MAX_SOURCES: usize = 8;

/// An image and its destinations.
pub struct Push {
    /// The image.
    pub image: Image,
    /// The tags that get the image.
    pub to: Vec<Reference>,
    /// How layers are packed.
    pub content: Settings,
    /// Tag of a destination's repository that gets the index of the layers' frames.
    pub cache_to: Option<Reference>,
    /// Whether nothing is written to the registry.
    pub dry_run: bool,
}

/// What an image in a registry tells about layers.
#[derive(Default)]
pub struct Learned {
    /// The layers whose keys the image names.
    pub layers: Vec<(LayerKey, PackedLayer)>,
    /// The frames that the reference names, if it is an index of frames.
    pub frames: Option<Frames>,
}

/// The result of pushing one image to one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// The tags, each with whether it had this image already.
    pub tags: Vec<(Reference, bool)>,
    /// Blobs that were sent, with their sizes in bytes.
    pub sent: BTreeMap<Digest, u64>,
    /// Blobs that the registry took from another repository, with their sizes in bytes.
    pub mounted: BTreeMap<Digest, u64>,
    /// Blobs that the repository had, with their sizes in bytes.
    pub there: BTreeMap<Digest, u64>,
    /// Number of layers that were packed.
    pub packed: u64,
    /// Number of bytes in bodies of blobs, including repeated tries.
    pub bytes: u64,
    /// Number of HTTP requests.
    pub requests: u64,
    /// Number of segments in the index of frames, or why it could not be stored. `None` if there should be none.
    pub frames: Option<Result<usize, String>>,
}

impl Pushed {
    /// Returns whether all tags had this image already.
    pub fn is_unchanged(&self) -> bool {
        self.tags.iter().all(|(_, unchanged)| *unchanged)
    }
}

impl Client {
    /// Pushes an image. The packer packs a layer only if its digest is unknown or a repository lacks it. Passes the result of each
    /// repository to `done` as soon as its tags are written. Later pushes of this client mount the blobs into other repositories.
    pub fn push(&self, push: Push, done: &mut dyn FnMut(Pushed)) -> Result<()> {
        let Push { image, to, mut content, cache_to, dry_run } = push;
        content.check_scratch()?;
        let failed = Arc::new(Mutex::new(None));
        content.report = {
            let failed = failed.clone();
            Arc::new(move |error| {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            })
        };
        let (name, tag) = (image.name().to_owned(), image.tag().to_owned());
        let catalog = Catalog::new(vec![image], &content)?;
        let stop = StopPacking::default();
        let queue = Arc::new(PackQueue::new(content, stop.0.clone()));
        let runtime = self.runtime()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { keys, homes } = &mut *known;
        for (repository, tags) in by_repository(&to)? {
            let before = queue.counters.counts();
            let session = self.session(&repository, Access::Push, &sources(homes, &repository))?;
            let delivery = Delivery {
                session: &session,
                queue: &queue,
                catalog: &catalog,
                homes,
                failed: &failed,
                dry_run,
            };
            let delivered = runtime.block_on(delivery.run((&name, &tag), &tags, keys));
            let delivered = delivered.map_err(|error| upload::take(&failed).unwrap_or(error))?;
            let counts = queue.counters.counts();
            let references = tags.iter().map(|tag| {
                let version = Version::Tag(tag.clone());
                (Reference { repository: repository.clone(), version }, delivered.unchanged.contains(tag))
            });
            let mut pushed = Pushed {
                digest: delivered.digest,
                tags: references.collect(),
                packed: counts.packings - before.packings,
                bytes: counts.bytes() - before.bytes(),
                requests: session.requests(),
                sent: delivered.sent,
                mounted: delivered.mounted,
                there: delivered.there,
                frames: None,
            };
            // The repository's image names its blobs now, so the registry can mount them elsewhere.
            for digest in pushed.sent.keys().chain(pushed.mounted.keys()).chain(pushed.there.keys()) {
                homes.insert((repository.host.clone(), *digest), repository.name.clone());
            }
            if let Some(frames) =
                cache_to.as_ref().filter(|frames| frames.repository == repository && !dry_run)
            {
                let image = pushed.sent.keys().chain(pushed.mounted.keys()).chain(pushed.there.keys());
                let image = image.copied().collect();
                let index = catalog.frames(&queue);
                let write = frames::write(&session, &frames.version, index, &image, &queue);
                // Without it, other machines compress more.
                pushed.frames = Some(runtime.block_on(write).map_err(|error| error.chain()));
            }
            done(pushed);
        }
        Ok(())
    }

    /// Takes the layers that an image in a registry names: later pushes do not pack them to find their digests.
    pub fn learn(&self, reference: &Reference) -> Result<Learned> {
        let reader = self.reader(&reference.repository)?;
        let session = &reader.session;
        let (manifests, configs, index) = reader.wait(async {
            let mut documents = Vec::new();
            if let Current::Other(document) = manifests::read(session, &reference.version, None).await? {
                documents = manifests::children(session, &document).await?;
                documents.push(document);
            }
            // An index is no manifest.
            let manifests =
                documents.iter().filter_map(|found| serde_json::from_slice::<Manifest>(&found.bytes).ok());
            let (frames, images): (Vec<_>, Vec<_>) = manifests.partition(frames::is_frames);
            let index = match frames.first() {
                Some(manifest) => Some(frames::read(session, manifest, reference).await?),
                None => None,
            };
            let configs =
                images.iter().map(|manifest| blob::small(session, manifest.config.digest, blob::MAX_CONFIG));
            let configs = try_join_all(configs).await?;
            Ok::<_, Error>((images, configs, index))
        })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut layers = Vec::new();
        for (manifest, config) in manifests.iter().zip(&configs) {
            known.keys.add(manifest, &reference.to_string());
            let Repository { host, name } = &reference.repository;
            let homes = manifest.layers.iter().map(|layer| ((host.clone(), layer.digest), name.clone()));
            known.homes.extend(homes);
            layers.extend(layer_keys::layers(manifest, config));
        }
        let frames = index.map(|index| Frames::new(reference.clone(), reader, index));
        Ok(Learned { layers, frames })
    }
}

/// Stops the packing of layers when it is dropped: a push that has failed needs them no more.
#[derive(Default)]
struct StopPacking(Arc<AtomicBool>);

impl Drop for StopPacking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the repositories of references, each with its tags, in the order of the references.
fn by_repository(references: &[Reference]) -> Result<Vec<(Repository, Vec<String>)>> {
    let mut all: Vec<(Repository, Vec<String>)> = Vec::new();
    for reference in references {
        let Version::Tag(tag) = &reference.version else {
            let why = "it names a digest; name a tag".to_owned();
            return Err(Error::Reference { reference: reference.to_string(), why });
        };
        match all.iter_mut().find(|(repository, _)| *repository == reference.repository) {
            Some((_, tags)) if tags.contains(tag) => {}
            Some((_, tags)) => tags.push(tag.clone()),
            None => all.push((reference.repository.clone(), vec![tag.clone()])),
        }
    }
    Ok(all)
}

/// Returns the other repositories of the registry whose blobs may be mounted.
fn sources(homes: &Homes, repository: &Repository) -> Vec<String> {
    let others =
        homes.iter().filter(|((host, _), name)| *host == repository.host && **name != repository.name);
    let names: BTreeSet<&String> = others.map(|(_, name)| name).collect();
    names.into_iter().take(MAX_SOURCES).cloned().collect()
}
