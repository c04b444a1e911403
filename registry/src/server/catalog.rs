//! What is served: repositories, their tags, an image's manifest for an asker, and blobs by digest.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use hyper::body::Bytes;
use nixply_packer::closure::Store;
use nixply_packer::digest::{DiffId, Digest};
use nixply_packer::image::oci::{self, Descriptor};
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::image::{go_json, reference};
use tokio::sync::OnceCell;

use super::converted::ConvertedBlob;
use super::pump::FileBlob;
use super::reads::{Compression, Reads};
use super::workshop::{PackedBlob, Workshop};
use crate::error::{Error, Result};

/// An image and what it is called.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    tag: String,
    spec: ImageSpec,
}

impl Image {
    /// Checks name and tag. The name is the repository's, without a registry's address. What the spec names is read and
    /// given away: see [`ImageSpec::check_paths`].
    pub fn new(name: &str, tag: &str, spec: ImageSpec) -> Result<Self> {
        let name = reference::canonical_name(name)?;
        reference::check_tag(tag)?;
        if name.contains(':') {
            return Err(Error::Host(name));
        }
        Ok(Self { name, tag: tag.into(), spec })
    }

    /// `NAME:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

/// A manifest's bytes.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes: bytes.into() }
    }
}

/// A blob, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum Blob {
    Bytes(Bytes),
    File(Arc<FileBlob>),
    Converted(Arc<ConvertedBlob>),
    Packed(Arc<PackedBlob>),
}

impl Blob {
    /// The place of the layer that it is, from 0.
    pub(super) fn place(&self) -> Option<usize> {
        match self {
            Self::Bytes(_) => None,
            Self::File(file) => Some(file.place),
            Self::Converted(converted) => Some(converted.file.place),
            Self::Packed(packed) => Some(packed.place),
        }
    }
}

/// An image in all forms that it is offered in.
struct Served {
    spec: ImageSpec,
    /// Media types and blobs of the layers from the bottom up.
    forms: Vec<Form>,
}

struct Form {
    reads: Reads,
    layers: Vec<(String, Blob)>,
    manifest: OnceCell<Document>,
}

/// Layers that would be packed to the same blob: the same tar stream, cut into frames at the same places.
type PackedKey = (DiffId, String, Vec<u8>);

/// An image has 127 layers at most.
const MOST_OPEN: usize = 128;

/// Everything that is served.
pub(super) struct Catalog {
    names: BTreeMap<String, BTreeMap<String, Served>>,
    blobs: RwLock<HashMap<Digest, Blob>>,
}

impl Catalog {
    /// The images, of which nothing is packed; base layers' files have to be there.
    pub(super) fn new(images: Vec<Image>, store: &Store, compression: Compression) -> Result<Self> {
        let mut catalog = Self { names: BTreeMap::new(), blobs: RwLock::default() };
        let mut packed: HashMap<PackedKey, Arc<PackedBlob>> = HashMap::new();
        let mut files: HashMap<(Digest, String), Arc<FileBlob>> = HashMap::new();
        let mut converted: HashMap<(Digest, String, String), Arc<ConvertedBlob>> = HashMap::new();
        let most_open = most_open_files();
        for image in images {
            let config = Bytes::from(oci::config(&image.spec));
            catalog.add(Digest::of(&config), Blob::Bytes(config));
            let readers: &[Reads] = match compression {
                Compression::Auto => &[Reads::Zstd, Reads::Gzip],
                // Everyone gets the same.
                Compression::Recorded(_) | Compression::Always(_) => &[Reads::Zstd],
            };
            let (mut forms, all) = (Vec::new(), Arc::from(&image.spec.layers[..]));
            for reads in readers {
                let mut layers = Vec::new();
                for (place, layer) in image.spec.layers.iter().enumerate() {
                    if let Some(name) = &layer.layer_path {
                        let there = files.get(&(layer.digest, name.clone())).cloned();
                        let open = || {
                            FileBlob::new(layer.digest, name, store, place, files.len() < most_open)
                                .map(Arc::new)
                        };
                        let file = there.map_or_else(open, Ok)?;
                        files.insert((layer.digest, name.clone()), file.clone());
                        if let Some(codec) = compression.conversion(layer, *reads) {
                            let key = (layer.digest, name.clone(), codec.to_string());
                            let new = || Arc::new(ConvertedBlob::new(file, layer.clone(), codec));
                            let blob = converted.entry(key).or_insert_with(new).clone();
                            layers.push((codec.media_type().into(), Blob::Converted(blob)));
                            continue;
                        }
                        catalog.add(layer.digest, Blob::File(file.clone()));
                        layers.push((layer.media_type.clone(), Blob::File(file)));
                        continue;
                    }
                    let codec = compression.codec(layer, *reads);
                    let key = (layer.diff_id, codec.to_string(), go_json::compact(&layer.paths));
                    let new = || Arc::new(PackedBlob::new(&all, place, codec));
                    let blob = packed.entry(key).or_insert_with(new).clone();
                    if let Some((digest, _)) = blob.known() {
                        catalog.add(digest, Blob::Packed(blob.clone()));
                    }
                    let recorded = layer.compression.unwrap_or_default() == codec;
                    let media_type =
                        if recorded { layer.media_type.clone() } else { codec.media_type().into() };
                    layers.push((media_type, Blob::Packed(blob)));
                }
                forms.push(Form { reads: *reads, layers, manifest: OnceCell::new() });
            }
            let tags = catalog.names.entry(image.name.clone()).or_default();
            if tags.insert(image.tag.clone(), Served { spec: image.spec, forms }).is_some() {
                return Err(Error::Twice { name: image.name, tag: image.tag });
            }
        }
        Ok(catalog)
    }

    /// The tags of a repository, sorted; none where there is no such repository.
    pub(super) fn tags(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.names.get(name)?.keys().map(String::as_str).collect())
    }

    /// A tag's manifest for an asker. The first time, digests that no spec has are found out by packing.
    pub(super) async fn by_tag(
        &self,
        name: &str,
        tag: &str,
        reads: Reads,
        workshop: &Arc<Workshop>,
    ) -> Result<Option<Document>> {
        let Some(served) = self.names.get(name).and_then(|tags| tags.get(tag)) else { return Ok(None) };
        self.manifest(served, reads, workshop).await.map(Some)
    }

    /// A manifest that this repository has. One that nobody has asked for by its tag is known only once what the asker
    /// would get has been found out: whoever wrote a digest down may come after a restart.
    pub(super) async fn by_digest(
        &self,
        name: &str,
        digest: Digest,
        reads: Reads,
        workshop: &Arc<Workshop>,
    ) -> Result<Option<Document>> {
        let images = || self.names.get(name).into_iter().flat_map(BTreeMap::values);
        let found = images().flat_map(|image| &image.forms).filter_map(|form| form.manifest.get());
        if let Some(document) = found.into_iter().find(|document| document.digest == digest) {
            return Ok(Some(document.clone()));
        }
        for image in images() {
            let document = self.manifest(image, reads, workshop).await?;
            if document.digest == digest {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// A blob of any repository.
    pub(super) fn blob(&self, digest: Digest) -> Option<Blob> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    fn add(&self, digest: Digest, blob: Blob) {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert(blob);
    }

    async fn manifest(&self, served: &Served, reads: Reads, workshop: &Arc<Workshop>) -> Result<Document> {
        let form = served.forms.iter().find(|form| form.reads == reads).unwrap_or(&served.forms[0]);
        let make = || async {
            let packed = form.layers.iter().filter_map(|(_, blob)| match blob {
                Blob::Packed(blob) => Some(blob.clone()),
                _ => None,
            });
            workshop.learn(&packed.collect::<Vec<_>>()).await?;
            for (_, blob) in &form.layers {
                if let Blob::Converted(converted) = blob {
                    converted.make(workshop).await?;
                }
            }
            let layers = form.layers.iter().map(|(media_type, blob)| {
                let (digest, size) = match blob {
                    Blob::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
                    Blob::File(file) => (file.digest(), file.size),
                    Blob::Converted(blob) => {
                        let made = blob.made().expect("it was made just now");
                        self.add(made.digest, Blob::Converted(blob.clone()));
                        (made.digest, made.size)
                    }
                    Blob::Packed(blob) => {
                        let known = blob.known().expect("it was learnt just now");
                        self.add(known.0, Blob::Packed(blob.clone()));
                        known
                    }
                };
                Descriptor::new(media_type, digest, size)
            });
            let manifest = oci::manifest(&served.spec, layers.collect());
            Ok(Document::new(go_json::compact(&manifest)))
        };
        form.manifest.get_or_try_init(make).await.cloned()
    }
}

/// How many layers' own files are kept open while the server runs. Others are opened for each reader, and have to be the same files.
fn most_open_files() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MOST_OPEN, |files| usize::try_from(files / 8).unwrap_or(MOST_OPEN)).min(MOST_OPEN)
}
