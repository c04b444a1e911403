//! What a client knows about registries from earlier requests: layers by key, and the repositories of blobs.

use std::collections::HashMap;

use nixply_oci::Digest;

use crate::content::layer_keys::LayerKeys;

/// Blobs that a registry's other repositories have, because an image there names them.
pub(super) type Homes = HashMap<(String, Digest), String>;

/// The knowledge of one client.
#[derive(Default)]
pub(super) struct Known {
    pub(super) keys: LayerKeys,
    pub(super) homes: Homes,
}
