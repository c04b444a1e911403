//! The border itself: one screen.

use crate::entry::{build_image, build_images, canonical_name, check_tag, nearest, plan_image, run_builder};

#[cxx::bridge(namespace = "nixply")]
mod ffi {
    /// What Nix knows of a store path.
    struct PathInfo {
        path: String,
        nar_hash: String,
        /// Bytes.
        nar_size: u64,
        references: Vec<String>,
    }

    /// Owner and mode of the files of `path` that match `regex`.
    struct Perm {
        path: String,
        regex: String,
        /// Octal digits, or empty.
        mode: String,
        uid: i64,
        gid: i64,
        uname: String,
        gname: String,
    }

    /// Who made a layer. All empty: the default.
    struct Metadata {
        given: bool,
        created: String,
        created_by: String,
        author: String,
        comment: String,
    }

    /// A remark on the image.
    struct Annotation {
        name: String,
        text: String,
    }

    /// A lock file's store path (empty: there is none), and which of its images layers are.
    struct LayerLock {
        file: String,
        image: String,
    }

    /// A layer of its own.
    struct LayerRequest {
        deps: Vec<String>,
        copy_to_root: Vec<String>,
        ignore: Vec<String>,
        perms: Vec<Perm>,
        max_layers: u32,
        /// A strategy's name, or empty for the default.
        strategy: String,
        /// Groups of store paths and predicates as JSON, checked by the packer; or empty.
        groups: String,
        lock: LayerLock,
        metadata: Metadata,
        /// Which of the layers ahead of this one to leave out what they have of; not given, all of them.
        parents: Vec<u32>,
        parents_given: bool,
        /// A folder in the store with layers that were packed before, instead of all the others; or empty.
        prebuilt: String,
    }

    /// A Nix database's store path (empty: there is none), and who owns `/nix`.
    struct NixDatabase {
        path: String,
        uid: i64,
        gid: i64,
    }

    /// An image. Names and meanings are those of `builtins.nixplyImage`; empty text means the default.
    struct ImageRequest {
        /// A lock file knows the image by it.
        name: String,
        /// The OCI config as JSON: arbitrary user data, checked by the packer.
        config: String,
        config_roots: Vec<String>,
        layers: Vec<LayerRequest>,
        /// What lies on top of `layers`: its deps, ignore, lock and metadata are not used.
        top: LayerRequest,
        from_image: String,
        any_platform: bool,
        /// A lock file's store path, or empty.
        lock: String,
        /// OCI's name for the processor; empty for that of `system`.
        arch: String,
        /// A Nix system such as x86_64-linux.
        system: String,
        created: String,
        compression: String,
        /// 0 for the default.
        layer_limit: u32,
        /// Of the manifest; sorted by name.
        annotations: Vec<Annotation>,
        inherit_config: bool,
        /// Docker's health check as JSON, checked by the packer; or empty.
        healthcheck: String,
        nix_database: NixDatabase,
    }

    /// Where the store lies, how many threads to use (0: one per core), where the cache is (empty: nowhere), how large it may
    /// become (bytes, or a size with a unit; 0 or empty: the default), others' caches that are only read, and whether store paths
    /// that are read are compared with their hashes.
    struct Machine {
        store_dir: String,
        real_store_dir: String,
        threads: u32,
        cache_dir: String,
        cache_limit: String,
        cache_shared: Vec<String>,
        check_store: bool,
    }

    /// A layer, packed or (with empty digests) only planned.
    struct LayerInfo {
        digest: String,
        diff_id: String,
        /// Of the blob, in bytes; of a planned layer, the sum of its archives' sizes.
        size: u64,
        media_type: String,
        paths: Vec<String>,
    }

    /// A packed image.
    struct BuiltImage {
        /// `image.json`.
        spec: String,
        /// Store paths that the spec names.
        references: Vec<String>,
        layers: Vec<LayerInfo>,
        /// The image ID.
        config_digest: String,
        /// Empty where a base image's layer has no recorded size.
        manifest_digest: String,
    }

    extern "Rust" {
        /// Plans and packs an image.
        fn build_image(
            request: &ImageRequest,
            closure: &Vec<PathInfo>,
            machine: &Machine,
            observer: Pin<&mut Observer>,
        ) -> Result<BuiltImage>;

        /// Plans and packs several images as one fleet; `keys` are their attributes. In the same order.
        fn build_images(
            keys: &Vec<String>,
            requests: &Vec<ImageRequest>,
            closure: &Vec<PathInfo>,
            machine: &Machine,
            observer: Pin<&mut Observer>,
        ) -> Result<Vec<BuiltImage>>;

        /// The layers that an image would have, from the bottom up. Reads no store path but a base image's spec.
        fn plan_image(
            request: &ImageRequest,
            closure: &Vec<PathInfo>,
            machine: &Machine,
            observer: Pin<&mut Observer>,
        ) -> Result<Vec<LayerInfo>>;

        /// Makes the output that a derivation's structured attributes (`.attrs.json`) ask for.
        fn run_builder(attrs: &str, machine: &Machine, observer: Pin<&mut Observer>) -> Result<()>;

        /// The image's name as registries have it, or why they do not take it.
        fn canonical_name(name: &str) -> Result<String>;

        /// Throws why registries do not take the tag.
        fn check_tag(tag: &str) -> Result<()>;

        /// The name in `known` that `name` was probably meant to be, or nothing.
        fn nearest(name: &str, known: &[&str]) -> String;
    }

    unsafe extern "C++" {
        include!("nixply/observer.hh");

        /// The C++ side's ears: see `observer.hh`.
        type Observer;
        fn interrupted(self: Pin<&mut Observer>) -> bool;
        fn layer_started(self: Pin<&mut Observer>, layer: u32, expected: u64);
        fn layer_progress(self: Pin<&mut Observer>, layer: u32, packed: u64);
        fn layer_finished(self: Pin<&mut Observer>, layer: u32);
        fn warn(self: Pin<&mut Observer>, text: &str);
    }
}

pub use ffi::*;
