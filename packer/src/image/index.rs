//! A layout's `index.json` and `oci-layout`. Other tools have entries and fields there, and all of them stay as they are:
//! only the entry of one's own tag is replaced.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::go_json;
use super::oci::{self, Descriptor};
use crate::document;
use crate::error::{Error, Result};
use crate::open;

/// The annotation that holds an entry's tag.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The layout version that is written and read here (image-spec, "oci-layout file").
const LAYOUT_VERSION: &str = "1.0.0";

/// More than any layout has. Keeps a file that is none from filling the memory.
const MOST_BYTES: u64 = 64 << 20;

/// The content of the file `oci-layout`.
pub(super) fn layout_file() -> String {
    json!({ "imageLayoutVersion": LAYOUT_VERSION }).to_string()
}

/// Whether the folder `dir` is a layout. Fails where it is one of another version.
pub(super) fn is_layout(dir: &Path) -> Result<bool> {
    let Some(file) = read(dir, "oci-layout")? else { return Ok(false) };
    let version = file.get("imageLayoutVersion").and_then(Value::as_str);
    if version == Some(LAYOUT_VERSION) {
        return Ok(true);
    }
    let found = version.map_or_else(|| "none".to_owned(), |version| format!("{version:?}"));
    let why = format!(
        "its imageLayoutVersion is {found}, this nixply knows {LAYOUT_VERSION:?}: name another folder"
    );
    Err(Error::invalid(dir.join("oci-layout").display().to_string(), why))
}

/// The index of a layout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Index(Map<String, Value>);

impl Index {
    /// Reads the index of the layout `dir`. A layout without one gets a new one.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let Some(index) = read(dir, "index.json")? else {
            let new = json!({ "schemaVersion": 2, "mediaType": oci::INDEX, "manifests": [] });
            return Ok(Self(new.as_object().cloned().unwrap_or_default()));
        };
        let wrong = |why: String| Err(Error::invalid(dir.join("index.json").display().to_string(), why));
        if index.get("schemaVersion") != Some(&json!(2)) {
            let version = index.get("schemaVersion").map_or_else(|| "none".to_owned(), Value::to_string);
            return wrong(format!(
                "its schemaVersion is {version}, this nixply knows 2: name another folder, or mend the file"
            ));
        }
        match index.get("manifests") {
            None | Some(Value::Null | Value::Array(_)) => Ok(Self(index)),
            Some(_) => wrong("manifests must be a list of the layout's images".into()),
        }
    }

    /// Adds an entry with this tag in place of those that have it.
    pub(super) fn set(&mut self, tag: &str, mut entry: Descriptor) {
        entry.annotations.insert(REF_NAME.into(), tag.into());
        let entry = serde_json::to_value(entry).expect("a descriptor has string keys");
        // Go writes an empty list as null.
        let mut entries = match self.0.get_mut("manifests").map(Value::take) {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        entries.retain(|entry| tag_of(entry) != Some(tag));
        entries.push(entry);
        self.0.insert("manifests".into(), entries.into());
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        go_json::compact(&self.0)
    }
}

/// An entry's tag.
pub(super) fn tag_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

/// A file of the layout, if it is there.
fn read(dir: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    let path = dir.join(name);
    let file = match open::linked(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read file", path, error)),
    };
    let text = open::text(file, MOST_BYTES).map_err(|source| Error::io("read file", &path, source))?;
    let wrong = |why: String| Error::invalid(path.display().to_string(), why);
    match document::parse(&text, &path.display().to_string())? {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(wrong("expected a JSON object".into())),
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
        index.set("new", Descriptor::of(oci::MANIFEST, b"{}"));
        String::from_utf8(index.bytes()).unwrap()
    }

    const OURS: &str = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"annotations":{"org.opencontainers.image.ref.name":"new"}}"#;

    #[test]
    fn layout_of_others_keeps_every_field() {
        let others = r#"{"digest":"sha256:0","platform":{"variant":"v7","os":"linux"},"data":"e30=","urls":["u"],"artifactType":"a","annotations":null,"x":{"y":[1,null,1.5]}}"#;
        let top = r#""annotations":{"top":"1"},"subject":{"size":2},"artifactType":"t","z":true"#;
        let tagged = OURS.replace("\"size\":2", "\"size\":9,\"platform\":{}");
        assert_eq!(
            added(&format!(r#"{{"schemaVersion":2,"manifests":[{others},{tagged},7],{top}}}"#)),
            format!(r#"{{"schemaVersion":2,"manifests":[{others},7,{OURS}],{top}}}"#)
        );
    }

    #[test]
    fn layout_of_others_may_have_no_list_and_gets_no_empty_media_type() {
        let expected = format!(r#"{{"schemaVersion":2,"manifests":[{OURS}]}}"#);
        for list in ["", r#","manifests":null"#, r#","manifests":[]"#] {
            assert_eq!(added(&format!(r#"{{"schemaVersion":2{list}}}"#)), expected);
        }
    }

    #[test]
    fn layout_of_others_is_refused_where_it_is_not_known() {
        let index = |text: &str| Index::read(layout(&layout_file(), text).path()).unwrap_err().chain();
        for (text, why) in [
            (r#"{"schemaVersion":3}"#, "its schemaVersion is 3, this nixply knows 2"),
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
            newer.contains("its imageLayoutVersion is \"2.0.0\", this nixply knows \"1.0.0\""),
            "{newer}"
        );
        assert!(version("{}").contains("its imageLayoutVersion is none"));
        assert!(!is_layout(tempfile::tempdir().unwrap().path()).unwrap());
    }
}
