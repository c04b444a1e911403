//! The quirks of registries, as switches.

use std::collections::BTreeSet;

use super::service::TokenService;

/// The quirks of a registry. The default has none.
#[derive(Clone)]
pub(in crate::client::tests) struct Profile {
    pub(in crate::client::tests) auth: Auth,
    pub(in crate::client::tests) mount: Mount,
    pub(in crate::client::tests) patch: Patch,
    /// Whether a POST with a digest and bytes stores a blob. Otherwise it starts a session, and the bytes are lost.
    pub(in crate::client::tests) single_post: bool,
    /// Whether a session ends with a PUT that has all bytes. Otherwise such a session is unknown.
    pub(in crate::client::tests) whole_put: bool,
    /// Status of a stored blob.
    pub(in crate::client::tests) stored: u16,
    /// Whether answers to written manifests and finished uploads name a place.
    pub(in crate::client::tests) names_places: bool,
    /// Origin of the places that answers name. Without it, they are paths.
    pub(in crate::client::tests) origin: &'static str,
    /// Maximum number of bytes of a request.
    pub(in crate::client::tests) body_limit: Option<usize>,
    /// Minimum number of bytes of a chunk, except the last one.
    pub(in crate::client::tests) least_chunk: Option<usize>,
    /// Whether a tag keeps its first manifest.
    pub(in crate::client::tests) immutable_tags: bool,
    /// The repositories, if the first push does not create one.
    pub(in crate::client::tests) repositories: Option<BTreeSet<String>>,
    /// Whether manifests of the OCI are accepted, beside those of Docker.
    pub(in crate::client::tests) takes_oci: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            mount: Mount::Any,
            patch: Patch::Appends,
            single_post: true,
            whole_put: true,
            stored: 201,
            names_places: true,
            origin: "",
            body_limit: None,
            least_chunk: None,
            immutable_tags: false,
            repositories: None,
            takes_oci: true,
        }
    }
}

/// Who may use a registry.
#[derive(Clone)]
pub(in crate::client::tests) enum Auth {
    /// Everyone.
    None,
    /// The user with this value of the header `Authorization`.
    Basic(String),
    /// The owners of tokens of this service.
    Bearer(TokenService),
}

/// Which blobs of other repositories a registry mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client::tests) enum Mount {
    /// All.
    Any,
    /// Those that a manifest of the source names.
    Committed,
    /// None: the answer starts a session.
    Never,
    /// None: the answer is this status.
    Fails(u16),
}

/// What a registry does with a PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client::tests) enum Patch {
    /// Appends the bytes.
    Appends,
    /// Keeps only the first one, in silence, and answers 201 (Amazon ECR).
    DropsLater,
    /// Keeps only the last one, and refuses requests above this size that have a range (GHCR).
    Overwrites(usize),
    /// Refuses it.
    Refused,
}
