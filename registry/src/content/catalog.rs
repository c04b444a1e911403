//! The served images: repositories, their tags, the manifests for each kind of client, and blobs by digest.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use hyper::body::Bytes;
use nixply_documents::go_json;
use nixply_oci::{Descriptor, DiffId, Digest, reference};
use nixply_packer::image::oci;
use nixply_packer::{Codec, FrameIndex, ImageSpec};
use tokio::sync::OnceCell;

use super::blob_source::Source;
use super::body::Body;
use super::client_support::ClientSupport;
use super::compression::Compression;
use super::converted::ConvertedBlob;
use super::file_blob::FileBlob;
use super::layer_keys::LayerKeys;
use super::pack_queue::PackQueue;
use super::packed_blob::PackedBlob;
use super::settings::Settings;
use crate::error::{Error, Result};

/// An image with its name and tag.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    tag: String,
    spec: ImageSpec,
}

impl Image {
    /// Checks name and tag. The name is the repository's, without a registry's address. The server reads and
    /// publishes every path in the spec: see [`ImageSpec::check_paths`].
    pub fn new(name: &str, tag: &str, spec: ImageSpec) -> Result<Self> {
        let name = reference::canonical_name(name).map_err(nixply_packer::Error::from)?;
        reference::check_tag(tag).map_err(nixply_packer::Error::from)?;
        if name.contains(':') {
            return Err(Error::Host(name));
        }
        Ok(Self { name, tag: tag.into(), spec })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns `NAME:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

/// The bytes of a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
}

impl Document {
    /// Returns the document with its digest.
    pub(crate) fn new(bytes: Vec<u8>, media_type: &'static str) -> Self {
        Self { digest: Digest::of(&bytes), bytes: bytes.into(), media_type }
    }
}

/// A blob and its location.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    Bytes(Bytes),
    File(Arc<FileBlob>),
    Converted(Arc<ConvertedBlob>),
    Packed(Arc<PackedBlob>),
}

impl Blob {
    /// Returns the number of bytes. The blob must have been found by its digest, so that it is known.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
            Self::Converted(converted) => converted.made().expect("blobs are found by their digest").size,
            Self::Packed(packed) => packed.digest_and_size().expect("blobs are found by their digest").1,
        }
    }

    /// Returns the bytes of a part, whose end is at most [`Blob::size`]. Starts to pack a layer that is not in the cache.
    pub(crate) async fn body(&self, part: Range<u64>, queue: &Arc<PackQueue>) -> Result<Body> {
        let source = match self {
            Self::Bytes(bytes) => {
                return Ok(Body::whole(bytes.slice(part.start as usize..part.end as usize)));
            }
            Self::File(file) => Source::File(file.clone()),
            Self::Converted(converted) => {
                let made = converted.made().expect("blobs are found by their digest");
                Source::Partial(made.bytes.clone())
            }
            Self::Packed(packed) => Source::of_packed(queue, packed).await?,
        };
        Ok(Body::pieces(source, part, self.size(), queue))
    }

    /// Waits until a part of the bytes can be sent. Starts to pack a layer that is not in the cache.
    pub(crate) async fn wait_for_first_byte(&self, queue: &Arc<PackQueue>) -> Result<()> {
        let Self::Packed(packed) = self else { return Ok(()) };
        if let Source::Partial(partial) = Source::of_packed(queue, packed).await? {
            // A failed packing is an error of the reader.
            let _ = partial.readable(0, self.size()).await;
        }
        Ok(())
    }

    /// Frees the disk space of a packed layer. Later readers find it in the cache, or it is packed again.
    pub(crate) fn release(&self) {
        if let Self::Packed(packed) = self {
            packed.partial.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Returns the index of the layer that this blob is.
    pub(crate) fn layer_index(&self) -> Option<usize> {
        match self {
            Self::Bytes(_) => None,
            Self::File(file) => Some(file.index),
            Self::Converted(converted) => Some(converted.file.index),
            Self::Packed(packed) => Some(packed.index),
        }
    }
}

/// An image in all variants that the server offers.
struct ServedImage {
    spec: ImageSpec,
    /// The layers for each kind of client, from the bottom up.
    variants: Vec<Variant>,
}

struct Variant {
    client: ClientSupport,
    layers: Vec<ServedLayer>,
    manifest: OnceCell<Document>,
}

/// A layer of a variant.
enum ServedLayer {
    /// A base image's layer, with its media type.
    File(Arc<FileBlob>, String),
    Converted(Arc<ConvertedBlob>, Codec),
    Packed(Arc<PackedBlob>),
}

/// Identifies layers that are packed to the same blob: the same tar stream, cut into frames at the same
/// offsets.
type PackedKey = (DiffId, String, Vec<u8>);

/// An image has at most 127 layers.
const MAX_OPEN: usize = 128;

/// All served images and blobs.
pub(crate) struct Catalog {
    names: BTreeMap<String, BTreeMap<String, ServedImage>>,
    blobs: RwLock<HashMap<Digest, Blob>>,
}

impl Catalog {
    /// Catalogues the images without packing them. The files of base layers must exist.
    pub(crate) fn new(images: Vec<Image>, settings: &Settings) -> Result<Self> {
        let (store, compression) = (&settings.store, settings.compression);
        let mut catalog = Self { names: BTreeMap::new(), blobs: RwLock::default() };
        let mut packed: HashMap<PackedKey, Arc<PackedBlob>> = HashMap::new();
        let mut files: HashMap<(Digest, String), Arc<FileBlob>> = HashMap::new();
        let mut converted: HashMap<(Digest, String, String), Arc<ConvertedBlob>> = HashMap::new();
        let most_open = most_open_files();
        for image in images {
            let config = Bytes::from(oci::config(&image.spec));
            catalog.add(Digest::of(&config), Blob::Bytes(config));
            let clients = match compression {
                Compression::Auto => ClientSupport::combinations(),
                // All clients get the same layers.
                Compression::Recorded(_) | Compression::Always(_) => vec![ClientSupport::ALL],
            };
            let (mut variants, all) = (Vec::new(), Arc::from(&image.spec.layers[..]));
            for client in clients {
                let mut layers = Vec::new();
                for (index, layer) in image.spec.layers.iter().enumerate() {
                    if let Some(name) = &layer.layer_path {
                        let there = files.get(&(layer.digest, name.clone())).cloned();
                        let open = || {
                            FileBlob::new(layer.digest, name, store, index, files.len() < most_open)
                                .map(Arc::new)
                        };
                        let file = there.map_or_else(open, Ok)?;
                        files.insert((layer.digest, name.clone()), file.clone());
                        if let Some(codec) = compression.conversion(layer, client) {
                            let key = (layer.digest, name.clone(), codec.to_string());
                            let new = || Arc::new(ConvertedBlob::new(file, layer.clone(), codec));
                            let blob = converted.entry(key).or_insert_with(new).clone();
                            layers.push(ServedLayer::Converted(blob, codec));
                            continue;
                        }
                        catalog.add(layer.digest, Blob::File(file.clone()));
                        layers.push(ServedLayer::File(file, layer.media_type.clone()));
                        continue;
                    }
                    let codec = compression.codec(layer, client);
                    let key = (layer.diff_id, codec.to_string(), go_json::compact(&layer.paths));
                    let new = || Arc::new(PackedBlob::new(&all, index, codec));
                    let blob = packed.entry(key).or_insert_with(new).clone();
                    if let Some((digest, _)) = blob.digest_and_size() {
                        catalog.add(digest, Blob::Packed(blob.clone()));
                    }
                    layers.push(ServedLayer::Packed(blob));
                }
                variants.push(Variant { client, layers, manifest: OnceCell::new() });
            }
            let tags = catalog.names.entry(image.name.clone()).or_default();
            if tags.insert(image.tag.clone(), ServedImage { spec: image.spec, variants }).is_some() {
                return Err(Error::Twice { name: image.name, tag: image.tag });
            }
        }
        Ok(catalog)
    }

    /// Returns the sorted tags of a repository. None if there is no such repository.
    pub(crate) fn tags(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.names.get(name)?.keys().map(String::as_str).collect())
    }

    /// Returns a tag's manifest for a client that supports every codec.
    pub(crate) async fn manifest_of(
        &self,
        name: &str,
        tag: &str,
        queue: &Arc<PackQueue>,
    ) -> Result<Option<Document>> {
        self.by_tag(name, tag, ClientSupport::ALL, queue).await
    }

    /// Returns a tag's manifest for a client. On first use, packs layers whose digests no spec records.
    pub(crate) async fn by_tag(
        &self,
        name: &str,
        tag: &str,
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<Option<Document>> {
        let Some(served) = self.names.get(name).and_then(|tags| tags.get(tag)) else { return Ok(None) };
        self.manifest(served, client, queue).await.map(Some)
    }

    /// Returns a manifest of this repository. If no client has requested its tag yet, the digests are found
    /// first: a client may have recorded the digest before a restart.
    pub(crate) async fn by_digest(
        &self,
        name: &str,
        digest: Digest,
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<Option<Document>> {
        let images = || self.names.get(name).into_iter().flat_map(BTreeMap::values);
        let found = images().flat_map(|image| &image.variants).filter_map(|variant| variant.manifest.get());
        if let Some(document) = found.into_iter().find(|document| document.digest == digest) {
            return Ok(Some(document.clone()));
        }
        for image in images() {
            let document = self.manifest(image, client, queue).await?;
            if document.digest == digest {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// Returns a blob of any repository.
    pub(crate) fn blob(&self, digest: Digest) -> Option<Blob> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    /// Records the digests and sizes of layers that a registry has, so that nothing is packed to find them. Returns the number of
    /// layers whose digest was unknown.
    pub(crate) fn learn(&self, known: &LayerKeys) -> usize {
        let variants = self.names.values().flat_map(BTreeMap::values).flat_map(|image| &image.variants);
        let packed = variants.flat_map(|variant| &variant.layers).filter_map(|layer| match layer {
            ServedLayer::Packed(blob) => Some(blob),
            _ => None,
        });
        packed.filter(|blob| blob.learn(known)).count()
    }

    /// Returns where the frames of packed layers are in their blobs, as far as the cache has them.
    pub(crate) fn frames(&self, queue: &PackQueue) -> FrameIndex {
        let variants = self.names.values().flat_map(BTreeMap::values).flat_map(|image| &image.variants);
        let mut index = FrameIndex::default();
        for layer in variants.flat_map(|variant| &variant.layers) {
            // A layer that cannot be read has no frames here.
            if let ServedLayer::Packed(blob) = layer
                && let Ok(Some(cached)) = queue.cached(blob)
            {
                index.add(&cached);
            }
        }
        index
    }

    /// Returns whether the digests of all layers of a tag are known.
    pub(crate) fn is_known(&self, name: &str, tag: &str) -> bool {
        let served = self.names.get(name).and_then(|tags| tags.get(tag));
        let mut layers =
            served.into_iter().flat_map(|image| &image.variants).flat_map(|variant| &variant.layers);
        layers.all(|layer| match layer {
            ServedLayer::File(..) => true,
            ServedLayer::Converted(blob, _) => blob.made().is_some(),
            ServedLayer::Packed(blob) => blob.digest_and_size().is_some(),
        })
    }

    fn add(&self, digest: Digest, blob: Blob) {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert(blob);
    }

    async fn manifest(
        &self,
        served: &ServedImage,
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<Document> {
        let variant =
            served.variants.iter().find(|variant| variant.client == client).unwrap_or(&served.variants[0]);
        let make = || async {
            let packed = variant.layers.iter().filter_map(|layer| match layer {
                ServedLayer::Packed(blob) => Some(blob.clone()),
                _ => None,
            });
            queue.find_digests(&packed.collect::<Vec<_>>()).await?;
            for layer in &variant.layers {
                if let ServedLayer::Converted(converted, _) = layer {
                    converted.make(queue).await?;
                }
            }
            let layers = variant.layers.iter().map(|layer| match layer {
                ServedLayer::File(blob, media_type) => Descriptor::new(media_type, blob.digest(), blob.size),
                ServedLayer::Converted(blob, codec) => {
                    let made = blob.made().expect("the layer was converted above");
                    self.add(made.digest, Blob::Converted(blob.clone()));
                    Descriptor::new(codec.media_type(), made.digest, made.size)
                }
                ServedLayer::Packed(blob) => {
                    let known = blob.digest_and_size().expect("find_digests has set the digest");
                    self.add(known.0, Blob::Packed(blob.clone()));
                    oci::layer_descriptor(blob.layer(), blob.codec, known)
                }
            });
            let manifest = oci::manifest(&served.spec, layers.collect());
            Ok(Document::new(go_json::compact(&manifest), nixply_oci::MANIFEST))
        };
        variant.manifest.get_or_try_init(make).await.cloned()
    }
}

/// Returns the maximum number of layer files that stay open while the server runs. The server reopens the others for each client
/// and checks that they are the same files.
fn most_open_files() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MAX_OPEN, |files| usize::try_from(files / 8).unwrap_or(MAX_OPEN)).min(MAX_OPEN)
}
