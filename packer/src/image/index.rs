//! A layout's `index.json` and `oci-layout`. Entries and fields of other tools stay byte for byte, including numbers of any
//! size: only the entry with the image's own tag and platform is replaced.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use nixply_documents::{document, go_json, wording};
use nixply_files::open;
use nixply_oci::{Descriptor, Platform};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Annotation that holds an entry's tag.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The layout version that this module reads and writes (image-spec, "oci-layout file").
const LAYOUT_VERSION: &str = "1.0.0";

/// Maximum size of a layout's files, in bytes. No real one is that large; the limit keeps other files from filling the
/// memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Returns the content of the file `oci-layout`.
pub(super) fn layout_file() -> String {
    json!({ "imageLayoutVersion": LAYOUT_VERSION }).to_string()
}

/// Returns whether the directory `dir` is a layout. Fails if its layout version is a different one.
pub(super) fn is_layout(dir: &Path) -> Result<bool> {
    let Some(file) = read(dir, "oci-layout")? else { return Ok(false) };
    let version = file.get("imageLayoutVersion").and_then(Value::as_str);
    if version == Some(LAYOUT_VERSION) {
        return Ok(true);
    }
    let found = version.map_or_else(|| "none".to_owned(), |version| format!("{version:?}"));
    let why = format!(
        "its imageLayoutVersion is {found}, but this nixply supports only {LAYOUT_VERSION:?}: name another directory"
    );
    Err(Error::invalid(dir.join("oci-layout").display().to_string(), why))
}

/// Index of a layout.
#[derive(Debug)]
pub(super) struct Index {
    fields: Fields,
    entries: Vec<Box<RawValue>>,
}

const ENTRIES: &str = "manifests";

/// A document with descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Index,
    Manifest,
}

/// Checks that a document of this kind does not have the media type or the keys of another kind: readers would disagree on its
/// kind (CVE-2021-41190). An error is the end of a message that begins with the document's name.
pub(super) fn check_kind(document: &Value, kind: Kind) -> Result<(), String> {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest";
    let (oci, dockers, others) = match kind {
        Kind::Index => (nixply_oci::INDEX, format!("{DOCKER}.list.v2+json"), &["config", "layers"][..]),
        Kind::Manifest => (nixply_oci::MANIFEST, format!("{DOCKER}.v2+json"), &[][..]),
    };
    let media_type = document.get("mediaType").unwrap_or(&Value::Null);
    if !(media_type.is_null() || ["", oci, &dockers].iter().any(|known| media_type == known)) {
        return Err(format!(": mediaType must be {oci:?}, not {}", wording::value(media_type)));
    }
    match others.iter().find(|key| document.get(key).is_some_and(|value| !value.is_null())) {
        Some(key) => Err(format!(" cannot have the key `{key}`, which only a manifest has")),
        None => Ok(()),
    }
}

impl Index {
    /// Reads the index of the layout `dir`. Returns an empty index if the layout has none.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let text = match read_text(dir, "index.json")? {
            Some(text) => text,
            None => json!({ "schemaVersion": 2, "mediaType": nixply_oci::INDEX, ENTRIES: [] }).to_string(),
        };
        let index = object(dir, "index.json", &text)?;
        let wrong = |why: String| Error::invalid(dir.join("index.json").display().to_string(), why);
        if index.get("schemaVersion") != Some(&json!(2)) {
            let version = index.get("schemaVersion").map_or_else(|| "none".to_owned(), Value::to_string);
            return Err(wrong(format!(
                "its schemaVersion is {version}, but this nixply supports only 2: name another directory, or repair the file"
            )));
        }
        let index = Value::Object(index);
        check_kind(&index, Kind::Index).map_err(|fault| {
            let file = dir.join("index.json");
            Error::content(format!("{}{fault}: name another directory, or repair the file", file.display()))
        })?;
        let Some(Value::Null | Value::Array(_)) = index.get(ENTRIES).or(Some(&Value::Null)) else {
            return Err(wrong("manifests must be a list of the layout's images".into()));
        };
        let again = |error: serde_json::Error| wrong(error.to_string());
        let fields: Fields = serde_json::from_str(&text).map_err(again)?;
        let entries = fields.0.iter().find(|(name, _)| name == ENTRIES);
        // Go writes an empty list as null.
        let entries: Option<Vec<Box<RawValue>>> = match entries {
            Some((_, entries)) => serde_json::from_str(entries.get()).map_err(again)?,
            None => None,
        };
        Ok(Self { fields, entries: entries.unwrap_or_default() })
    }

    /// Adds an entry with this tag, and removes existing entries with it. If the entry is an image's, with its platform, an entry
    /// with the tag for another platform stays. In that case the new entry also gets its platform, and comes first, for readers
    /// that take the first entry with a tag.
    pub(super) fn set(&mut self, tag: &str, mut entry: Descriptor, platform: Option<&Platform>) {
        entry.annotations.insert(REF_NAME.into(), tag.into());
        let others = |known: &Value| known.get("platform").and_then(other_platform(platform?));
        let (mut kept, mut place) = (Vec::with_capacity(self.entries.len() + 1), None);
        for raw in std::mem::take(&mut self.entries) {
            let known: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            if tag_of(&known) == Some(tag) {
                match others(&known) {
                    None => continue,
                    Some(()) => _ = place.get_or_insert(kept.len()),
                }
            }
            kept.push(raw);
        }
        if place.is_some() {
            entry.platform = platform.cloned();
        }
        let text = String::from_utf8(go_json::compact(&entry)).expect("JSON is UTF-8");
        let raw = RawValue::from_string(text).expect("the text was written as JSON");
        kept.insert(place.unwrap_or(kept.len()), raw);
        self.entries = kept;
    }

    /// Returns the file's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let text = String::from_utf8(go_json::compact(&self.entries)).expect("JSON is UTF-8");
        let entries = RawValue::from_string(text).expect("the text was written as JSON");
        let mut fields = Fields(self.fields.0.clone());
        match fields.0.iter_mut().find(|(name, _)| name == ENTRIES) {
            Some((_, value)) => *value = entries,
            None => fields.0.push((ENTRIES.into(), entries)),
        }
        go_json::compact(&fields)
    }
}

/// Returns a test for entries whose platform differs from `own`.
fn other_platform(own: &Platform) -> impl Fn(&Value) -> Option<()> {
    let own = own.clone().canonical();
    move |value| {
        let known = serde_json::from_value::<Platform>(value.clone()).ok()?.canonical();
        // A platform may lack its variant.
        let is_same = |a: &str, b: &str| a == b || a.is_empty() || b.is_empty();
        let pairs =
            [(&known.os, &own.os), (&known.architecture, &own.architecture), (&known.variant, &own.variant)];
        (!pairs.iter().all(|(known, own)| is_same(known, own))).then_some(())
    }
}

/// An object's fields in their original order, each value with its original text.
#[derive(Debug)]
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Returns an entry's tag.
pub(super) fn tag_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

/// Reads a file of the layout, if it exists.
fn read(dir: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    read_text(dir, name)?.map(|text| object(dir, name, &text)).transpose()
}

fn read_text(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(name);
    let file = match open::linked(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read file", path, error)),
    };
    open::text(file, MAX_FILE_BYTES).map(Some).map_err(|source| Error::io("read file", &path, source))
}

fn object(dir: &Path, name: &str, text: &str) -> Result<Map<String, Value>> {
    let path = dir.join(name).display().to_string();
    match document::parse(text, &path)? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::invalid(path, "expected a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn layout(version: &str, index: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("oci-layout"), version).unwrap();
        fs::write(dir.path().join("index.json"), index).unwrap();
        dir
    }

    fn added(index: &str) -> String {
        let dir = layout(&layout_file(), index);
        let mut index = Index::read(dir.path()).unwrap();
        index.set("new", Descriptor::of(nixply_oci::MANIFEST, b"{}"), Some(&Platform::from_short("amd64")));
        String::from_utf8(index.bytes()).unwrap()
    }

    const OURS: &str = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"annotations":{"org.opencontainers.image.ref.name":"new"}}"#;

    #[test]
    fn other_tools_layouts_keep_every_field() {
        let others = r#"{"digest":"sha256:0","platform":{"variant":"v7","os":"linux"},"data":"e30=","urls":["u"],"artifactType":"a","annotations":null,"x":{"y":[1,null,1.5]}}"#;
        let top = r#""annotations":{"top":"1"},"subject":{"size":2},"artifactType":"t","z":true"#;
        let tagged = OURS.replace("\"size\":2", "\"size\":9,\"platform\":{}");
        assert_eq!(
            added(&format!(r#"{{"schemaVersion":2,"manifests":[{others},{tagged},7],{top}}}"#)),
            format!(r#"{{"schemaVersion":2,"manifests":[{others},7,{OURS}],{top}}}"#)
        );
    }

    #[test]
    fn other_tools_layouts_keep_numbers_unchanged() {
        let others =
            r#"{"size":12345678901234567890123,"x":1.10,"y":[1e2,-0,0.1000000000000000055511151231257827]}"#;
        assert_eq!(
            added(&format!(r#"{{"n":1.0e5,"schemaVersion":2,"manifests":[{others}]}}"#)),
            format!(r#"{{"n":1.0e5,"schemaVersion":2,"manifests":[{others},{OURS}]}}"#)
        );
    }

    /// Regression test: nixply removed the entry for the other platform.
    #[test]
    fn entries_for_other_platforms_of_the_same_tag_stay() {
        let tag = r#""annotations":{"org.opencontainers.image.ref.name":"new","k":"v"}"#;
        let entry = |platform: &str| format!(r#"{{"digest":"sha256:0","platform":{platform},{tag}}}"#);
        let (arm, amd) = (
            entry(r#"{"architecture":"arm64","os":"linux"}"#),
            entry(r#"{"os":"linux","architecture":"amd64"}"#),
        );
        let ours = OURS.replace("}}", r#"},"platform":{"architecture":"amd64","os":"linux"}}"#);
        assert_eq!(
            added(&format!(r#"{{"schemaVersion":2,"manifests":[{arm},{amd},7]}}"#)),
            format!(r#"{{"schemaVersion":2,"manifests":[{ours},{arm},7]}}"#)
        );
        // Without an entry for another platform, the new entry has no platform.
        for platform in [
            "null",
            "{}",
            r#"{"architecture":"amd64","os":"linux","variant":"v1"}"#,
            r#"{"architecture":"x86_64"}"#,
        ] {
            let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entry(platform));
            assert_eq!(added(&index), format!(r#"{{"schemaVersion":2,"manifests":[{OURS}]}}"#));
        }
    }

    #[test]
    fn an_index_without_a_list_is_accepted_and_gets_no_media_type() {
        let expected = format!(r#"{{"schemaVersion":2,"manifests":[{OURS}]}}"#);
        for list in ["", r#","manifests":null"#, r#","manifests":[]"#] {
            assert_eq!(added(&format!(r#"{{"schemaVersion":2{list}}}"#)), expected);
        }
    }

    /// Regression test: nixply added an image to a manifest.
    #[test]
    fn an_index_that_is_a_manifest_is_refused() {
        let index = |text: &str| Index::read(layout(&layout_file(), text).path()).unwrap_err().chain();
        let kind = |kind: &str| format!(r#"{{"schemaVersion":2,"mediaType":{kind},"manifests":[]}}"#);
        for (text, why) in [
            (
                kind(r#""application/vnd.oci.image.manifest.v1+json""#),
                ": mediaType must be \"application/vnd.oci.image.index.v1+json\", not the text \
                 \"application/vnd.oci.image.manifest.v1+json\": name another directory",
            ),
            (
                kind("7"),
                ": mediaType must be \"application/vnd.oci.image.index.v1+json\", not the number 7: name",
            ),
            (
                r#"{"schemaVersion":2,"config":{},"layers":[]}"#.into(),
                " cannot have the key `config`, which only a manifest has: name",
            ),
            (
                r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.into(),
                " cannot have the key `layers`, which only a manifest has: name",
            ),
        ] {
            let error = index(&text);
            assert!(error.contains(&format!("/index.json{why}")), "{error}");
        }
        for right in [r#""application/vnd.docker.distribution.manifest.list.v2+json""#, r#""""#, "null"] {
            Index::read(layout(&layout_file(), &kind(right)).path()).unwrap();
        }
        let large = index(r#"{"schemaVersion":2,"manifests":[{"size":1e400}]}"#);
        assert!(
            large.contains("/index.json: manifests[0].size must be a number") && large.ends_with("1e400"),
            "{large}"
        );
    }

    #[test]
    fn layouts_of_unknown_versions_are_refused() {
        let index = |text: &str| Index::read(layout(&layout_file(), text).path()).unwrap_err().chain();
        for (text, why) in [
            (r#"{"schemaVersion":3}"#, "its schemaVersion is 3, but this nixply supports only 2"),
            (r#"{"manifests":[]}"#, "its schemaVersion is none"),
            (r#"{"schemaVersion":2,"manifests":{}}"#, "manifests must be a list"),
            ("[]", "expected a JSON object"),
            ("{", "it ends in the middle of an object"),
        ] {
            let error = index(text);
            assert!(error.contains("index.json is not ") && error.contains(why), "{error}");
        }
        let version = |text: &str| is_layout(layout(text, "{}").path()).unwrap_err().chain();
        let newer = version(r#"{"imageLayoutVersion":"2.0.0"}"#);
        assert!(
            newer.contains("its imageLayoutVersion is \"2.0.0\", but this nixply supports only \"1.0.0\""),
            "{newer}"
        );
        assert!(version("{}").contains("its imageLayoutVersion is none"));
        assert!(!is_layout(tempfile::tempdir().unwrap().path()).unwrap());
    }
}
