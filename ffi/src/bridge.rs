//! The bridge: the whole interface between C++ and the packer.

use crate::arguments::{Argument, argument_docs, check_request, request_argument, root_texts};
use crate::entry::{build_image, build_images, build_index, plan_image, run_builder};

#[cxx::bridge(namespace = "nixply")]
mod ffi {
    /// The kind of a request.
    enum RequestKind {
        Image,
        Index,
    }

    /// Nix's record of a store path.
    struct PathInfo {
        path: String,
        nar_hash: String,
        /// Bytes.
        nar_size: u64,
        references: Vec<String>,
    }

    /// A string in a request that is a store path.
    struct PathText {
        /// Its place, as in `layers[1].deps[0]`.
        place: String,
        path: String,
    }

    /// The store, and settings of the packer.
    struct PackerSettings {
        store_dir: String,
        /// Directory of the store's files on this machine.
        real_store_dir: String,
        /// Number of threads; 0 is one per core.
        threads: u32,
        /// The cache's directory; empty: no cache.
        cache_dir: String,
        /// Maximum size of the cache: bytes, or text with a unit. 0 or empty: the default.
        cache_limit: String,
        /// Other users' caches, read-only.
        cache_shared: Vec<String>,
        /// Whether the packer verifies store paths against their NAR hashes.
        check_store: bool,
    }

    /// A layer, packed or (with empty digests) only planned.
    struct LayerInfo {
        digest: String,
        diff_id: String,
        /// Size of the blob, in bytes. For a layer that is only planned: the sum of its archives' sizes.
        size: u64,
        media_type: String,
        paths: Vec<String>,
    }

    /// A packed image.
    struct BuiltImage {
        /// The image's name in lower case.
        name: String,
        /// `image.json`.
        spec: String,
        /// The same JSON, in which Nix finds no references.
        description: String,
        /// Store paths that the spec names.
        references: Vec<String>,
        layers: Vec<LayerInfo>,
        /// The image ID.
        config_digest: String,
        /// Empty if a layer of the base image has no recorded size.
        manifest_digest: String,
    }

    /// An image of an index.
    struct PlatformInfo {
        /// As in `linux/arm/v7`.
        platform: String,
        /// The image ID.
        config_digest: String,
        /// Empty if a layer of the base image has no recorded size.
        manifest_digest: String,
    }

    /// An image index.
    struct BuiltIndex {
        /// The index's name in lower case.
        name: String,
        /// `index-NAME.json`.
        spec: String,
        /// The same document, in which Nix finds no references.
        description: String,
        /// Store paths that the spec names.
        references: Vec<String>,
        /// The images in the order of the index.
        images: Vec<PlatformInfo>,
        /// Digest of the OCI index. Empty if an image has no manifest digest.
        index_digest: String,
    }

    extern "Rust" {
        /// The schema of a value in a request.
        type Argument;

        /// Returns the schema of a whole request.
        fn request_argument(kind: RequestKind) -> Box<Argument>;

        /// Returns whether the value can be an object with this key.
        fn has_key(self: &Argument, name: &str) -> bool;

        /// Returns the schema of a key's value. The object must be able to have the key.
        fn key(self: &Argument, name: &str) -> Box<Argument>;

        /// Returns whether the value can be an object.
        fn takes_object(self: &Argument) -> bool;

        /// Returns whether the value can be a list.
        fn takes_list(self: &Argument) -> bool;

        /// Returns the schema of the list's elements. The value must be able to be a list.
        fn element(self: &Argument) -> Box<Argument>;

        /// Returns whether a string here must not name a store path.
        fn names_nothing(self: &Argument) -> bool;

        /// Returns whether the value is part of the image's config.
        fn is_config(self: &Argument) -> bool;

        /// Returns the arguments of a request with their descriptions, for the documentation of a builtin.
        fn argument_docs(kind: RequestKind) -> String;

        /// Checks everything that needs neither a store nor a closure, and throws the first error. `document` names the request in
        /// messages.
        fn check_request(kind: RequestKind, request: &str, document: &str) -> Result<()>;

        /// Returns the strings of a request that are store paths whose closures the image contains, except those in its config.
        fn root_texts(kind: RequestKind, request: &str) -> Result<Vec<PathText>>;

        /// Plans and packs an image. The request is JSON; only the packer reads it.
        fn build_image(
            request: &str,
            closure: &Vec<PathInfo>,
            settings: &PackerSettings,
            observer: Pin<&mut Observer>,
        ) -> Result<BuiltImage>;

        /// Plans and packs several images together; `keys` are their attributes. Returns them in the same order.
        fn build_images(
            keys: &Vec<String>,
            requests: &Vec<String>,
            closure: &Vec<PathInfo>,
            settings: &PackerSettings,
            observer: Pin<&mut Observer>,
        ) -> Result<Vec<BuiltImage>>;

        /// Makes an image index from the specs of its images.
        fn build_index(
            request: &str,
            closure: &Vec<PathInfo>,
            settings: &PackerSettings,
        ) -> Result<BuiltIndex>;

        /// Returns the layers that an image would have, from the bottom up. Reads no store path except a base image's spec.
        fn plan_image(
            request: &str,
            closure: &Vec<PathInfo>,
            settings: &PackerSettings,
            observer: Pin<&mut Observer>,
        ) -> Result<Vec<LayerInfo>>;

        /// Makes the output of a derivation from its structured attributes (`.attrs.json`).
        fn run_builder(attrs: &str, settings: &PackerSettings, observer: Pin<&mut Observer>) -> Result<()>;
    }

    unsafe extern "C++" {
        include!("nixply/observer.hh");

        /// Receives progress and warnings: see `observer.hh`.
        type Observer;
        fn interrupted(self: Pin<&mut Observer>) -> bool;
        fn layer_started(self: Pin<&mut Observer>, layer: u32, expected: u64);
        fn layer_progress(self: Pin<&mut Observer>, layer: u32, packed: u64);
        fn layer_finished(self: Pin<&mut Observer>, layer: u32);
        fn warn(self: Pin<&mut Observer>, text: &str);
    }
}

pub use ffi::*;
