//! Chooses one platform's image from an image index, in the same way as skopeo. Source: containers/image, `chooseInstance` in
//! `manifest/oci_index.go`, and `WantedPlatforms` in `internal/pkg/platform/platform_matcher.go`.

use std::collections::BTreeMap;

use nixply_documents::go_json::null_is_default;
use nixply_oci::{Digest, Platform, ZSTD_TWIN};
use serde::Deserialize;

/// Variants of a processor, each compatible with those after it.
const VARIANTS: [(&str, &[&str]); 2] = [("arm", &["v8", "v7", "v6", "v5"]), ("arm64", &["v8"])];

/// An image index, or a manifest list of Docker.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// The manifests of the platforms.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Child>,
}

/// A manifest in an index.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Its media type.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Its platform.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Its annotations.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Child {
    /// Returns whether this is an image, and not an attestation.
    pub fn is_image(&self) -> bool {
        !self.platform.as_ref().is_some_and(Platform::is_unknown)
    }
}

impl Index {
    /// Returns the index of a document, or `None` if it is not an index.
    pub fn of(document: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(document).ok()?;
        value.get("manifests")?;
        serde_json::from_value(value).ok()
    }

    /// Returns the image for a platform. An image without a platform fits if no other one does.
    pub fn choose(&self, wanted: &Platform) -> Option<&Child> {
        let variants = variants(wanted);
        let place = |child: &Child| match &child.platform {
            None => Some(variants.len()),
            Some(found) if found.os != wanted.os || found.architecture != wanted.architecture => None,
            Some(found) => variants.iter().position(|variant| *variant == found.variant),
        };
        let fitting = self.manifests.iter().filter_map(|child| Some((place(child)?, child)));
        let order = |(place, child): &(usize, &Child)| {
            let is_zstd = child.annotations.get(ZSTD_TWIN).is_some_and(|value| value == "true");
            (*place, !is_zstd)
        };
        fitting.min_by_key(order).map(|(_, child)| child)
    }

    /// Returns the names of the images' platforms.
    pub fn platforms(&self) -> String {
        let images = self.manifests.iter().filter(|child| child.is_image());
        let names = images.map(|child| match &child.platform {
            Some(platform) => platform.to_string(),
            None => child.digest.to_string(),
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() { "no image".into() } else { names.join(", ") }
    }
}

/// Returns the variants that run on a platform, the best first. An empty one is an image without a variant.
fn variants(wanted: &Platform) -> Vec<&str> {
    let known = VARIANTS.iter().find(|(architecture, _)| *architecture == wanted.architecture);
    let known = known.map_or(&[][..], |(_, variants)| variants);
    let wanted = wanted.variant.as_str();
    if wanted.is_empty() {
        return [""].iter().chain(known).copied().collect();
    }
    let compatible = known.iter().position(|variant| *variant == wanted).map(|at| known[at..].to_vec());
    let mut all = compatible.unwrap_or_else(|| vec![wanted]);
    all.push("");
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entries = platforms.iter().enumerate().map(|(at, platform)| {
            let mut entry = json!({"digest": format!("sha256:{at:064x}"), "size": 2});
            let (platform, zstd) =
                platform.strip_suffix("+zstd").map_or((*platform, false), |rest| (rest, true));
            if zstd {
                entry["annotations"] = json!({ZSTD_TWIN: "true"});
            }
            match platform.split('/').collect::<Vec<_>>()[..] {
                [os, arch] => entry["platform"] = json!({"os": os, "architecture": arch}),
                [os, arch, variant] => {
                    entry["platform"] = json!({"os": os, "architecture": arch, "variant": variant});
                }
                _ => {}
            }
            entry
        });
        let document = json!({"schemaVersion": 2, "manifests": entries.collect::<Vec<_>>()});
        Index::of(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_same_image_as_with_skopeo_is_chosen() {
        let arm = &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8", "linux/amd64"][..];
        for (platforms, wanted, chosen) in [
            (arm, "linux/arm/v7", Some(1)),
            (arm, "linux/arm", Some(1)),
            (arm, "linux/arm/v6", Some(2)),
            (arm, "linux/arm64", Some(3)),
            (arm, "linux/amd64", Some(4)),
            (arm, "linux/amd64/v3", Some(4)),
            (arm, "windows/amd64", None),
            (arm, "linux/riscv64", None),
            (&["linux/arm/v7", "linux/arm"], "linux/arm/v6", Some(1)),
            (&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
            (&["", "linux/amd64"], "linux/amd64", Some(1)),
            (&["", ""], "linux/amd64", Some(0)),
            (&["linux/amd64", "linux/amd64+zstd"], "linux/amd64", Some(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
        ] {
            let index = index(platforms);
            let found = index.choose(&wanted.parse().unwrap()).map(|child| child.digest.to_string());
            assert_eq!(found, chosen.map(|at| format!("sha256:{at:064x}")), "{platforms:?} {wanted}");
        }
        assert_eq!(index(arm).platforms(), arm.join(", "));
        assert_eq!(index(&["unknown/unknown"]).platforms(), "no image");
        assert!(Index::of(br#"{"schemaVersion":2,"layers":[]}"#).is_none());
    }
}
