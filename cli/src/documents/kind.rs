//! Guesses the kind of a file from its contents, so that an error about the wrong file can name its kind.

use std::path::Path;

use serde_json::Value;

/// Kinds of documents that commands read or that users confuse with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Fleet,
    Spec,
    Index,
    Layers,
    Closure,
    Lock,
    OciIndex,
    OciManifest,
    OciConfig,
    Derivation,
}

impl Kind {
    /// Returns the name for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "an image request",
            Self::Fleet => "an object of image requests",
            Self::Spec => "an image spec",
            Self::Index => "the spec of an image index",
            Self::Layers => "a list of layers (layers.json)",
            Self::Closure => "a closure",
            Self::Lock => "a lock file",
            Self::OciIndex => "an OCI index",
            Self::OciManifest => "an OCI manifest",
            Self::OciConfig => "an OCI image config",
            Self::Derivation => "a derivation",
        }
    }

    /// Returns a hint that says where to get a document of this kind.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Request => {
                "an image request is JSON with the arguments of builtins.nixplyImage, such as {\"config\": {...}}"
            }
            Self::Fleet => "without --images, the file is the request of one image",
            Self::Closure => "get a closure with `nix path-info --json --recursive PATH`",
            _ => "an image spec is the image.json that nixply build writes, or a result link to one",
        }
    }

    /// Returns a hint for a file of this kind that was passed where `wanted` is expected.
    pub(super) fn hint(self, wanted: Self, file: &str) -> String {
        match self {
            Self::Spec if wanted == Self::Request => format!("show its layers with nixply inspect {file}"),
            Self::Request if wanted == Self::Spec => {
                format!("build it first: nixply build {file} -o image.json")
            }
            Self::Fleet if wanted == Self::Request => "pass --images to nixply plan".into(),
            Self::Request if wanted == Self::Fleet => "omit --images".into(),
            Self::OciIndex | Self::OciManifest | Self::OciConfig => {
                "make a spec with skopeo copy OCI-LAYOUT dir:DIR, then nixply n2c image-from-dir image.json DIR".into()
            }
            Self::Index if wanted == Self::Spec => {
                "pass the spec of one of its images; push, layout, serve, inspect, diff and skopeo accept indexes".into()
            }
            Self::Closure => format!("pass it as --closure {file}; {}", wanted.source()),
            _ => wanted.source().into(),
        }
    }

    /// Guesses a document's kind from its keys.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let has = |key: &str| value.get(key).is_some();
        let first_has = |key: &str| value.get(0).is_some_and(|first| first.get(key).is_some());
        let mut entries = value.as_object().into_iter().flatten();
        let is_derivation =
            |(key, value): (&String, &Value)| key.ends_with(".drv") && value.get("outputs").is_some();
        let are_requests =
            value.as_object().is_some_and(|keys| !keys.is_empty() && keys.values().all(is_request));
        // The first match counts.
        let kinds = [
            (first_has("diff_ids"), Self::Layers),
            (first_has("path"), Self::Closure),
            (entries.clone().any(is_derivation), Self::Derivation),
            (has("version") && has("layers") && has("release"), Self::Lock),
            (has("version") && has("layers"), Self::Spec),
            (has("version") && has("images"), Self::Index),
            (has("manifests"), Self::OciIndex),
            (has("schemaVersion") && has("layers"), Self::OciManifest),
            (has("rootfs"), Self::OciConfig),
            (has("info") && has("storeDir") || entries.any(|(key, _)| key.starts_with('/')), Self::Closure),
            (is_request(value), Self::Request),
            (are_requests, Self::Fleet),
        ];
        kinds.into_iter().find(|(fits, _)| *fits).map(|(_, kind)| kind)
    }
}

/// Whether an object has one of the arguments that define an image's contents.
fn is_request(value: &Value) -> bool {
    ["config", "copyToRoot", "layers"].iter().any(|key| value.get(key).is_some())
}

/// Whether `nix build` would accept this name as an installable.
pub(super) fn is_installable(name: &str) -> bool {
    name.contains('#')
        || name.starts_with("github:")
        || name.starts_with("nixpkgs.")
        || name.starts_with("flake:")
}

/// Guesses the format of a binary file from its first bytes.
pub(super) fn format_of(bytes: &[u8]) -> Option<&'static str> {
    let formats: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\x7fELF", "a program"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x89PNG", "a picture"),
        (b"SQLite format 3\0", "a SQLite database"),
        (b"\xff\xfe", "text in UTF-16"),
        (b"\xfe\xff", "text in UTF-16"),
    ];
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    let known = formats.iter().find(|(first, _)| bytes.starts_with(first)).map(|(_, name)| *name);
    known.or(is_tar.then_some("a tar archive"))
}

/// Whether a text that is not JSON looks like a Nix expression.
pub(super) fn is_nix(path: &Path, text: &str) -> bool {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let starts = ["let ", "with ", "import ", "rec ", "{ pkgs", "{pkgs", "{ lib", "{ config,", "inherit "];
    let starts = starts.iter().any(|start| code.trim_start().starts_with(start));
    path.extension().is_some_and(|extension| extension == "nix") || starts || code.contains("builtins.nixply")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_guessed_from_keys() {
        for (value, kind) in [
            (json!({"version": 1, "layers": []}), Some(Kind::Spec)),
            (json!({"version": 1, "images": []}), Some(Kind::Index)),
            (json!({"version": 1, "release": 2, "layers": []}), Some(Kind::Lock)),
            (json!({"config": {}, "layers": []}), Some(Kind::Request)),
            (json!({"web": {"config": {}}, "worker": {"config": {}}}), Some(Kind::Fleet)),
            (json!({"schemaVersion": 2, "manifests": []}), Some(Kind::OciIndex)),
            (json!({"schemaVersion": 2, "config": {}, "layers": []}), Some(Kind::OciManifest)),
            (json!([{"path": "/nix/store/x", "references": []}]), Some(Kind::Closure)),
            (json!({"/nix/store/x": {"references": []}}), Some(Kind::Closure)),
            (json!({"/nix/store/x.drv": {"outputs": {}}}), Some(Kind::Derivation)),
            (json!([{"digest": "x", "diff_ids": "y"}]), Some(Kind::Layers)),
            (json!({"confg": {}}), None),
            (json!({}), None),
            (json!([]), None),
            (json!(3), None),
        ] {
            assert_eq!(Kind::of(&value), kind, "{value}");
        }
    }

    #[test]
    fn nix_expressions_are_recognised() {
        for (file, text, is) in [
            ("image.nix", "", true),
            ("image", "# An image.\n{ pkgs ? import <nixpkgs> { } }:\n", true),
            ("image", "let x = 1; in x", true),
            ("image.json", "{\"config\": ", false),
            ("README.md", "# nixply\n\nOCI images", false),
        ] {
            assert_eq!(is_nix(Path::new(file), text), is, "{file} {text}");
        }
    }
}
