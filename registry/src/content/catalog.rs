//! The served images: repositories, their tags, the manifests and indexes for each kind of client, and blobs by digest.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use hyper::body::Bytes;
use nixply_documents::go_json;
use nixply_oci::{Descriptor, DiffId, Digest, INDEX, MANIFEST, Manifest, Platform};
use nixply_packer::{Codec, FrameIndex, ImageSpec, Layer};
use serde::Serialize;
use tokio::sync::OnceCell;

use super::blob_source::{Check, Source};
use super::body::Body;
use super::client_support::ClientSupport;
use super::compression::Compression;
use super::converted::ConvertedBlob;
use super::file_blob::FileBlob;
use super::image::{Content, Image};
use super::layer_keys::LayerKeys;
use super::pack_queue::PackQueue;
use super::packed_blob::PackedBlob;
use super::settings::Settings;
use crate::error::{Error, Result};

/// The bytes of a manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) media_type: &'static str,
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Document {
    /// Writes a document.
    pub(crate) fn new(media_type: &'static str, document: &impl Serialize) -> Self {
        let bytes = go_json::compact(document);
        Self { media_type, digest: Digest::of(&bytes), bytes: bytes.into() }
    }
}

/// The documents of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Documents {
    /// The tag's own document: the manifest of an image, or an index.
    pub(crate) top: Document,
    /// The manifests that the index names, each once, in its order, with their platforms. Empty for an image.
    pub(crate) children: Vec<(Document, Platform)>,
}

impl Documents {
    /// Returns all documents.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Document> {
        [&self.top].into_iter().chain(self.children.iter().map(|(document, _)| document))
    }

    /// Returns the manifest of the first image whose programs run on `platform`. None if the index has none, or if the tag is an
    /// image.
    pub(crate) fn child_for(&self, platform: &Platform) -> Option<&Document> {
        self.children.iter().find(|(_, own)| own.is(platform)).map(|(document, _)| document)
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
    pub(crate) async fn body(&self, part: Range<u64>, check: Check, queue: &Arc<PackQueue>) -> Result<Body> {
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
        Ok(Body::pieces(source, part, self.size(), check, queue))
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

/// The content of a tag for clients with the same support for codecs.
struct Variant {
    client: ClientSupport,
    content: Content,
    /// The layers, from the bottom up, for each image of the content.
    images: Vec<Vec<ServedLayer>>,
    documents: OnceCell<Documents>,
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

/// Most images have at most 127 layers.
const MAX_OPEN: usize = 128;

/// All served images and blobs.
pub(crate) struct Catalog {
    names: BTreeMap<String, BTreeMap<String, Vec<Variant>>>,
    blobs: RwLock<HashMap<Digest, Blob>>,
}

impl Catalog {
    /// Catalogues the images without packing them. The files of base layers must exist.
    pub(crate) fn new(images: Vec<Image>, settings: &Settings) -> Result<Self> {
        let mut catalog = Self { names: BTreeMap::new(), blobs: RwLock::default() };
        let mut shared = SharedBlobs::new(settings);
        let clients = match settings.compression {
            Compression::Auto => ClientSupport::combinations(),
            // All clients get the same layers.
            Compression::Recorded(_) | Compression::Always(_) => vec![ClientSupport::ALL],
        };
        for image in images {
            let variant = |client: &ClientSupport| {
                catalog.variant(image.content.for_client(*client), *client, &mut shared)
            };
            let variants = clients.iter().map(variant).collect::<Result<_>>()?;
            let tags = catalog.names.entry(image.name().to_owned()).or_default();
            if tags.insert(image.tag().to_owned(), variants).is_some() {
                return Err(Error::Twice { name: image.name().into(), tag: image.tag().into() });
            }
        }
        Ok(catalog)
    }

    fn variant(
        &self,
        content: Content,
        client: ClientSupport,
        shared: &mut SharedBlobs<'_>,
    ) -> Result<Variant> {
        // The images of an index number their layers together, so that each number in an error or an event means one layer.
        let layers = || content.images().into_iter().flat_map(|spec| &spec.layers);
        let (all, mut index): (Arc<[Layer]>, _) = (layers().cloned().collect(), 0);
        let mut images = Vec::new();
        for spec in content.images() {
            let config = Bytes::from(spec.config_blob());
            self.add(Digest::of(&config), Blob::Bytes(config));
            let mut layers = Vec::new();
            for _ in &spec.layers {
                let layer = shared.layer(&all, index, client)?;
                match &layer {
                    ServedLayer::File(file, _) => self.add(file.digest(), Blob::File(file.clone())),
                    ServedLayer::Packed(packed) => {
                        let known = packed.digest_and_size();
                        known.into_iter().for_each(|known| self.add(known.0, Blob::Packed(packed.clone())));
                    }
                    // Its digest is not known yet.
                    ServedLayer::Converted(..) => {}
                }
                layers.push(layer);
                index += 1;
            }
            images.push(layers);
        }
        Ok(Variant { client, content, images, documents: OnceCell::new() })
    }

    /// Returns the sorted tags of a repository. None if there is no such repository.
    pub(crate) fn tags(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.names.get(name)?.keys().map(String::as_str).collect())
    }

    /// Returns a tag's documents for a client. On first use, packs layers whose digests no spec records.
    pub(crate) async fn documents(
        &self,
        name: &str,
        tag: &str,
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<Option<&Documents>> {
        let Some(variants) = self.names.get(name).and_then(|tags| tags.get(tag)) else { return Ok(None) };
        self.documents_of(variants, client, queue).await.map(Some)
    }

    /// Returns a manifest or an index of this repository. If no client has requested its tag yet, the digests are found
    /// first: a client may have recorded the digest before a restart.
    pub(crate) async fn by_digest(
        &self,
        name: &str,
        digest: Digest,
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<Option<Document>> {
        let find =
            |documents: &Documents| documents.all().find(|document| document.digest == digest).cloned();
        let tags: Vec<&Vec<Variant>> = self.names.get(name).into_iter().flat_map(BTreeMap::values).collect();
        let made =
            tags.iter().copied().flatten().filter_map(|variant| variant.documents.get()).find_map(find);
        if made.is_some() {
            return Ok(made);
        }
        for variants in tags {
            if let Some(document) = find(self.documents_of(variants, client, queue).await?) {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// Returns a blob of any repository.
    pub(crate) fn blob(&self, digest: Digest) -> Option<Blob> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    /// Returns the packed layers of all images.
    fn packed(&self) -> impl Iterator<Item = &Arc<PackedBlob>> {
        let variants = self.names.values().flat_map(BTreeMap::values).flatten();
        variants.flat_map(|variant| variant.images.iter().flatten()).filter_map(|layer| match layer {
            ServedLayer::Packed(blob) => Some(blob),
            _ => None,
        })
    }

    /// Records the digests and sizes of layers that a registry has, so that nothing is packed to find them. Returns the number of
    /// layers whose digest was unknown.
    pub(crate) fn learn(&self, known: &LayerKeys) -> usize {
        self.packed().filter(|blob| blob.learn(known)).count()
    }

    /// Returns where the frames of packed layers are in their blobs, as far as the cache has them.
    pub(crate) fn frames(&self, queue: &PackQueue) -> FrameIndex {
        let mut index = FrameIndex::default();
        for blob in self.packed() {
            // A layer that cannot be read has no frames here.
            if let Ok(Some(cached)) = queue.cached(blob) {
                index.add(&cached);
            }
        }
        index
    }

    /// Returns whether the digests of all layers are known.
    pub(crate) fn is_known(&self) -> bool {
        let variants = self.names.values().flat_map(BTreeMap::values).flatten();
        let mut layers = variants.flat_map(|variant| variant.images.iter().flatten());
        layers.all(|layer| match layer {
            ServedLayer::File(..) => true,
            ServedLayer::Converted(blob, _) => blob.made().is_some(),
            ServedLayer::Packed(blob) => blob.digest_and_size().is_some(),
        })
    }

    fn add(&self, digest: Digest, blob: Blob) {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert(blob);
    }

    async fn documents_of<'c>(
        &self,
        variants: &'c [Variant],
        client: ClientSupport,
        queue: &Arc<PackQueue>,
    ) -> Result<&'c Documents> {
        let variant = variants.iter().find(|variant| variant.client == client).unwrap_or(&variants[0]);
        let layers = || variant.images.iter().flatten();
        let make = || async {
            let packed = layers().filter_map(|layer| match layer {
                ServedLayer::Packed(blob) => Some(blob.clone()),
                _ => None,
            });
            queue.find_digests(&packed.collect::<Vec<_>>()).await?;
            for layer in layers() {
                if let ServedLayer::Converted(converted, _) = layer {
                    converted.make(queue).await?;
                }
            }
            let specs = variant.content.images().into_iter();
            let manifests = specs.zip(&variant.images).map(|(spec, layers)| self.manifest(spec, layers));
            Ok(documents(&variant.content, &manifests.collect::<Vec<_>>()))
        };
        variant.documents.get_or_try_init(make).await
    }

    /// Returns the manifest of an image whose layers' digests are known, and adds these layers to the blobs.
    fn manifest(&self, spec: &ImageSpec, layers: &[ServedLayer]) -> Manifest {
        let layers = layers.iter().map(|layer| match layer {
            ServedLayer::File(blob, media_type) => Descriptor::new(media_type, blob.digest(), blob.size),
            ServedLayer::Converted(blob, codec) => {
                let made = blob.made().expect("the layer was converted before");
                self.add(made.digest, Blob::Converted(blob.clone()));
                Descriptor::new(codec.media_type(), made.digest, made.size)
            }
            ServedLayer::Packed(blob) => {
                let known = blob.digest_and_size().expect("find_digests has set the digest");
                self.add(known.0, Blob::Packed(blob.clone()));
                blob.layer().descriptor(blob.codec, known)
            }
        });
        spec.manifest_with(layers.collect())
    }
}

/// Returns the documents of a tag, whose images have these manifests.
fn documents(content: &Content, manifests: &[Manifest]) -> Documents {
    let documents = manifests.iter().map(|manifest| Document::new(MANIFEST, manifest));
    match content {
        Content::Image(_) => {
            let top = documents.into_iter().next().expect("an image has one manifest");
            Documents { top, children: Vec::new() }
        }
        Content::Index(spec) => {
            let index = spec.index(manifests);
            let mut made: HashMap<Digest, Document> =
                documents.map(|document| (document.digest, document)).collect();
            let children = index.manifests.iter().map(|named| {
                let document = made.remove(&named.digest).expect("the index names each manifest once");
                (document, named.platform.clone().unwrap_or_default())
            });
            Documents { top: Document::new(INDEX, &index), children: children.collect() }
        }
    }
}

/// Blobs that several images or variants share.
struct SharedBlobs<'s> {
    settings: &'s Settings,
    /// Maximum number of layer files that stay open.
    most_open: usize,
    packed: HashMap<PackedKey, Arc<PackedBlob>>,
    files: HashMap<(Digest, String), Arc<FileBlob>>,
    converted: HashMap<(Digest, String, String), Arc<ConvertedBlob>>,
}

impl<'s> SharedBlobs<'s> {
    fn new(settings: &'s Settings) -> Self {
        Self {
            settings,
            most_open: most_open_files(),
            packed: HashMap::new(),
            files: HashMap::new(),
            converted: HashMap::new(),
        }
    }

    /// Returns the layer at `index` for a client.
    fn layer(&mut self, all: &Arc<[Layer]>, index: usize, client: ClientSupport) -> Result<ServedLayer> {
        let (layer, compression) = (&all[index], self.settings.compression);
        let Some(name) = &layer.layer_path else {
            let codec = compression.codec(layer, client);
            let key = (layer.diff_id, codec.to_string(), go_json::compact(&layer.paths));
            let new = || Arc::new(PackedBlob::new(all, index, codec));
            let blob = self.packed.entry(key).or_insert_with(new).clone();
            return Ok(ServedLayer::Packed(blob));
        };
        let key = (layer.digest, name.clone());
        let file = match self.files.get(&key) {
            Some(file) => file.clone(),
            None => {
                let keep = self.files.len() < self.most_open;
                let file = FileBlob::new(layer.digest, name, &self.settings.store, index, keep)?;
                self.files.entry(key).or_insert(Arc::new(file)).clone()
            }
        };
        if let Some(codec) = compression.conversion(layer, client) {
            let key = (layer.digest, name.clone(), codec.to_string());
            let new = || Arc::new(ConvertedBlob::new(file, layer.clone(), codec));
            let blob = self.converted.entry(key).or_insert_with(new).clone();
            return Ok(ServedLayer::Converted(blob, codec));
        }
        Ok(ServedLayer::File(file, layer.media_type.clone()))
    }
}

/// Returns the maximum number of layer files that stay open while the server runs. The server reopens the others for each client
/// and checks that they are the same files.
fn most_open_files() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MAX_OPEN, |files| usize::try_from(files / 8).unwrap_or(MAX_OPEN)).min(MAX_OPEN)
}
