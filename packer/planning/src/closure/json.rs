//! Reads a closure from JSON, in all forms that Nix prints.

use std::collections::HashMap;

use nixply_documents::document;
use nixply_documents::wording::{self, quoted};
use serde::Deserialize;
use serde_json::Value;

use super::{Closure, PathInfo, Store};
use crate::error::{Error, Result};
use crate::nar_hash;
use crate::store_path::StorePath;

/// Maximum total size of a closure's paths, in bytes: larger than any store, and small enough that sums over thousands of images
/// and releases fit 64 bits.
const MAX_BYTES: u64 = 1 << 50;

/// Name in messages for a closure without a name.
const NAME: &str = "closure JSON";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    path: Option<String>,
    #[serde(default, deserialize_with = "nixply_documents::go_json::null_is_default")]
    references: Vec<String>,
    #[serde(default)]
    nar_hash: Value,
    #[serde(default)]
    nar_size: u64,
    #[serde(default = "yes")]
    valid: bool,
}

fn yes() -> bool {
    true
}

impl Closure {
    /// Reads a closure from JSON: the graph of a derivation's `exportReferencesGraph` or nix2container's closure graph (a
    /// list), or the output of `nix path-info --json` in any of its formats (a list until Nix 2.18, an object by path from
    /// 2.19, `{"info": {...}, "storeDir": ...}` by base name since 2.33). Its paths can be in any store: see
    /// [`Closure::check`].
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_value(document::parse(text, NAME)?)
    }

    /// As [`Closure::from_json`], from parsed JSON.
    pub fn from_value(value: Value) -> Result<Self> {
        Entries::of(value, NAME)?.closure()
    }

    /// As [`Closure::from_json`], for a document whose paths and references must be store paths of `store`. Messages name the
    /// document, `name`, and the entry.
    pub fn read(text: &str, name: &str, store: &Store) -> Result<Self> {
        Self::of_value(document::parse(text, name)?, name, store)
    }

    /// As [`Closure::read`], from parsed JSON.
    pub fn of_value(value: Value, name: &str, store: &Store) -> Result<Self> {
        Entries::of(value, name)?.of_store(store)
    }

    /// As [`Closure::read`], for callers that do not know the store: all paths must be in the store of the first one.
    pub fn read_of_one_store(text: &str, name: &str) -> Result<Self> {
        Entries::of(document::parse(text, name)?, name)?.of_one_store()
    }

    /// As [`Closure::new`]. Entries of one path with different hashes or sizes are an error; an empty hash and a size of 0 are
    /// unknown and match any other. Sizes larger than any store are also an error. `what` is for messages.
    pub fn consistent(infos: impl IntoIterator<Item = PathInfo>, what: &str) -> Result<Self> {
        let infos: Vec<PathInfo> = infos.into_iter().collect();
        let mut known: HashMap<&StorePath, (&str, u64)> = HashMap::with_capacity(infos.len());
        for PathInfo { path, nar_hash, nar_size, .. } in &infos {
            let (hash, size) = known.entry(path).or_insert((nar_hash, *nar_size));
            let differ = |ours: &str, other: &str| nar_hash::canonical(ours) != nar_hash::canonical(other);
            if !hash.is_empty() && !nar_hash.is_empty() && *hash != nar_hash && differ(hash, nar_hash) {
                let why = format!("it has two entries with different hashes, {hash} and {nar_hash}");
                return Err(Error::invalid(format!("{what}, store path {path}"), why));
            }
            if *size != 0 && *nar_size != 0 && size != nar_size {
                let why = format!("it has two entries with different sizes, {size} and {nar_size}");
                return Err(Error::invalid(format!("{what}, store path {path}"), why));
            }
            if hash.is_empty() {
                *hash = nar_hash;
            }
            *size = (*size).max(*nar_size);
        }
        match infos.iter().map(|info| info.nar_size).fold(0, u64::saturating_add) {
            ..=MAX_BYTES => Ok(Self::new(infos)),
            _ => Err(Error::invalid(what, "the sizes of its paths add up to more than 1 PiB")),
        }
    }
}

/// A document's entries, in its order.
struct Entries<'n> {
    name: &'n str,
    infos: Vec<Named>,
}

/// A [`PathInfo`] with unchecked paths.
struct Named {
    path: String,
    references: Vec<String>,
    nar_hash: String,
    nar_size: u64,
}

impl<'n> Entries<'n> {
    fn of(value: Value, name: &'n str) -> Result<Self> {
        let mut prefix = String::new();
        let entries: Vec<(Option<String>, Value)> = match value {
            Value::Array(list) => list.into_iter().map(|entry| (None, entry)).collect(),
            Value::Object(mut object) => {
                if let (Some(dir), Some(info)) = (
                    object.get("storeDir").and_then(Value::as_str),
                    object.get("info").and_then(Value::as_object),
                ) {
                    prefix = format!("{dir}/");
                    object = info.clone();
                }
                object.into_iter().map(|(path, entry)| (Some(path), entry)).collect()
            }
            _ => return Err(Error::invalid(name, "expected a list or an object of store paths")),
        };
        let full = |name: &str| {
            if name.starts_with('/') { name.to_owned() } else { format!("{prefix}{name}") }
        };
        let mut infos = Vec::with_capacity(entries.len());
        for (at, (key, entry)) in entries.into_iter().enumerate() {
            let path = key.clone().or_else(|| Some(entry.get("path")?.as_str()?.to_owned()));
            let place = || place(name, at, path.as_deref());
            if entry.is_null() {
                return Err(Error::invalid(place(), "Nix does not know this path: build it first"));
            }
            let entry: Entry = document::fill(entry, &place())?;
            let path = path.as_ref().ok_or_else(|| Error::invalid(place(), "it has no path"))?;
            if let Some(other) = entry.path.as_ref().filter(|other| full(other) != full(path)) {
                let why = format!("its path is {}, which differs from its key", quoted(other));
                return Err(Error::invalid(place(), why));
            }
            if !entry.valid {
                return Err(Error::invalid(place(), "Nix does not know this path: build it first"));
            }
            infos.push(Named {
                path: full(path),
                references: entry.references.iter().map(|name| full(name)).collect(),
                nar_hash: nar_hash::from_json(&entry.nar_hash)
                    .map_err(|why| Error::invalid(format!("{}, narHash", place()), why))?,
                nar_size: entry.nar_size,
            });
        }
        Ok(Self { name, infos })
    }

    /// Returns the closure, whose paths can be in any store.
    fn closure(self) -> Result<Closure> {
        self.checked(|path| StorePath::parse(path).map_err(Error::from))
    }

    /// Returns the closure. All paths and references must be store paths of `store`.
    fn of_store(self, store: &Store) -> Result<Closure> {
        self.checked(|path| store.check(path))
    }

    /// Returns the closure. All paths and references must be store paths of the first path's store.
    fn of_one_store(self) -> Result<Closure> {
        let Some(first) = self.infos.first() else { return self.closure() };
        let store = Store::of(&first.path).map_err(|error| Error::at(place(self.name, 0, None), error))?;
        self.of_store(&store)
    }

    /// Returns the closure. Errors name the entry by its index in the document.
    fn checked(self, check: impl Fn(&str) -> Result<StorePath>) -> Result<Closure> {
        let name = self.name;
        let checked = |(at, named): (usize, Named)| {
            let path = check(&named.path).map_err(|error| Error::at(place(name, at, None), error))?;
            let place = || place(name, at, Some(path.as_str()));
            let references = named.references.iter().enumerate().map(|(number, reference)| {
                let what = || format!("{}, references[{number}]", place());
                check(reference).map_err(|error| Error::at(what(), error))
            });
            let references = references.collect::<Result<_>>()?;
            let Named { nar_hash, nar_size, .. } = named;
            Ok(PathInfo { path, references, nar_hash, nar_size })
        };
        let infos = self.infos.into_iter().enumerate().map(checked).collect::<Result<Vec<_>>>()?;
        Closure::consistent(infos, name)
    }
}

/// Returns an entry's name for messages: its index and, if known, its path.
fn place(name: &str, at: usize, path: Option<&str>) -> String {
    match path {
        Some(path) => format!("{name}, entry {at} ({})", wording::short(path)),
        None => format!("{name}, entry {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_path_are_merged() {
        let text = r#"[{"path": "/nix/store/00000000000000000000000000000000-a", "narSize": 1, "references": ["/nix/store/00000000000000000000000000000000-c"]}, {"path": "/nix/store/00000000000000000000000000000000-b"},
            {"path": "/nix/store/00000000000000000000000000000000-a", "narSize": 1, "references": ["/nix/store/00000000000000000000000000000000-b", "/nix/store/00000000000000000000000000000000-c"]}]"#;
        let closure = Closure::from_json(text).unwrap();
        let paths: Vec<&str> = closure.iter().map(|info| info.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/nix/store/00000000000000000000000000000000-a",
                "/nix/store/00000000000000000000000000000000-b"
            ]
        );
        assert_eq!(closure.at(0).references, ["b", "c"].map(StorePath::named));
    }

    #[test]
    fn too_large_sizes_are_an_error() {
        let text = format!(
            r#"[{{"path": "/nix/store/00000000000000000000000000000000-a", "narSize": {}}}, {{"path": "/nix/store/00000000000000000000000000000000-b", "narSize": 1}}]"#,
            u64::MAX
        );
        assert_eq!(
            Closure::from_json(&text).unwrap_err().to_string(),
            "closure JSON is not valid: the sizes of its paths add up to more than 1 PiB"
        );
    }

    #[test]
    fn all_formats_of_path_info_are_read() {
        let texts = [
            r#"[{"path":"/nix/store/00000000000000000000000000000000-a","references":["/nix/store/00000000000000000000000000000000-b"],"narHash":"sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=","narSize":5,"closureSize":9},
                {"path":"/nix/store/00000000000000000000000000000000-b","references":[],"narHash":"sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic","narSize":4,"valid":true}]"#,
            r#"{"/nix/store/00000000000000000000000000000000-a":{"references":["/nix/store/00000000000000000000000000000000-b"],"narHash":"sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=","narSize":5},
                "/nix/store/00000000000000000000000000000000-b":{"references":[],"narHash":"sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic","narSize":4}}"#,
            r#"{"version":2,"storeDir":"/nix/store","info":{"00000000000000000000000000000000-a":{"references":["00000000000000000000000000000000-b"],"narHash":"sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=","narSize":5},
                "00000000000000000000000000000000-b":{"references":[],"narHash":"sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic","narSize":4}}}"#,
        ];
        for text in texts {
            let closure = Closure::from_json(text).unwrap();
            let b = StorePath::named("b");
            let first = closure.iter().next().unwrap();
            assert_eq!(
                (first.path.as_str(), &first.references[..]),
                ("/nix/store/00000000000000000000000000000000-a", &[b.clone()][..]),
                "{text}"
            );
            assert_eq!((closure.len(), closure.get(&b).unwrap().nar_size), (2, 4));
        }
    }

    #[test]
    fn unknown_paths_and_wrong_json_are_named() {
        let error = |text: &str| Closure::from_json(text).unwrap_err().to_string();
        assert!(
            error(r#"{"/nix/store/00000000000000000000000000000000-a":null}"#)
                .contains("entry 0 (/nix/store/00000000000000000000000000000000-a) is not valid: Nix does not know this path")
        );
        assert!(error(r#"[{"path":"/a","valid":false}]"#).contains("entry 0"));
        assert!(error(r#"[{"references":[]}]"#).contains("it has no path"));
        assert!(error("3").contains("expected a list or an object"));
        assert!(error("{").starts_with("closure JSON is not complete: "));
    }

    #[test]
    fn an_invalid_archive_hash_is_named() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let read = |hash: &str| {
            Closure::from_json(&format!(
                r#"[{{"path": "/nix/store/00000000000000000000000000000000-a", "narHash": {hash}}}]"#
            ))
        };
        let base64 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        for right in [
            "null",
            "\"\"",
            &format!("\"sha256:{hex}\""),
            &format!("\"sha256:{}\"", "0".repeat(52)),
            &format!("\"sha256:{base64}\""),
            &format!("\"sha256-{base64}\""),
            &format!(r#"{{"algorithm": "sha256", "format": "base64", "hash": "{base64}"}}"#),
            &format!(r#"{{"algorithm": "sha256", "format": "base16", "hash": "{hex}"}}"#),
        ] {
            read(right).unwrap();
        }
        for wrong in [
            "3",
            "[]",
            "{}",
            "\"x\"",
            "\"sha256:\"",
            "\"sha256-x\"",
            "\"../../etc/passwd\"",
            &format!("\"{hex}\""),
            &format!("\"sha256:{hex}0\""),
            &format!("\"sha256: {}\"", &hex[1..]),
            // The last digit of base 32 has bits beyond the 256 of a hash.
            &format!("\"sha256:{}\"", "z".repeat(52)),
            &format!("\"sha256:{}\"", "e".repeat(52)),
            &format!("\"sha512:{hex}{hex}\""),
            "\"md5:d41d8cd98f00b204e9800998ecf8427e\"",
            &format!(r#"{{"algorithm": "sha1", "format": "base16", "hash": "{hex}"}}"#),
            &format!(r#"{{"algorithm": "sha256", "hash": "{hex}"}}"#),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with(
                    "closure JSON, entry 0 (/nix/store/00000000000000000000000000000000-a), narHash is not valid: expected a SHA-256"
                ),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn entries_that_contradict_each_other_are_an_error() {
        let hash = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let read = |entries: &str| Closure::from_json(entries).map(drop).map_err(|error| error.to_string());
        let two = |one: &str, other: &str| {
            read(&format!(
                r#"[{{"path": "/nix/store/00000000000000000000000000000000-a", {one}}}, {{"path": "/nix/store/00000000000000000000000000000000-a", {other}}}]"#
            ))
        };
        let (a, b) = (hash("a"), hash("b"));
        two(&format!("\"narHash\": \"{a}\""), "\"narSize\": 1").unwrap();
        assert_eq!(
            two(&format!("\"narHash\": \"{a}\""), &format!("\"narHash\": \"{b}\"")).unwrap_err(),
            format!(
                "closure JSON, store path /nix/store/00000000000000000000000000000000-a is not valid: it has two entries with different hashes, {a} and {b}"
            )
        );
        assert!(two("\"narSize\": 1", "\"narSize\": 2").unwrap_err().contains("different sizes, 1 and 2"));
        assert_eq!(
            read(r#"{"/nix/store/00000000000000000000000000000000-a": {}, "/nix/store/00000000000000000000000000000000-a": {}}"#).unwrap_err(),
            "closure JSON: line 1, column 101: the key \"/nix/store/00000000000000000000000000000000-a\" occurs twice"
        );
        let error = read(
            r#"[{"path": "/nix/store/00000000000000000000000000000000-a", "narSize": 1, "narSize": 2}]"#,
        )
        .unwrap_err();
        assert_eq!(error, "closure JSON: line 1, column 82: the key \"narSize\" occurs twice");
        let error = read(r#"{"/nix/store/00000000000000000000000000000000-a": {"path": "/nix/store/00000000000000000000000000000000-b"}}"#).unwrap_err();
        assert_eq!(
            error,
            "closure JSON, entry 0 (/nix/store/00000000000000000000000000000000-a) is not valid: its path is \"/nix/store/00000000000000000000000000000000-b\", which differs from its key"
        );
        assert!(
            read(r#"[["/nix/store/00000000000000000000000000000000-a", []]]"#)
                .unwrap_err()
                .contains("entry 0 must be an object, not a list")
        );
    }

    #[test]
    fn entries_of_a_document_are_store_paths_and_named_by_number() {
        let good = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
        let (store, other) = (Store::at("/nix/store"), good.replace("/nix/store", "/gnu/store"));
        let read = |text: &str| Closure::read(text, "c.json", &store).map(drop).map_err(|e| e.to_string());
        let list = |path: &str, reference: &str| {
            format!(
                r#"[{{"path": "{good}"}}, {{"path": "{path}", "references": ["{good}", "{reference}"]}}]"#
            )
        };
        read(&list(good, good)).unwrap();
        let name = "expected a 32-character hash, a dash and a name, and nothing below it";
        let outside = "it is not in the store /nix/store";
        for (path, why) in [
            ("/nix/store/../../etc/passwd", name),
            (&*format!("{good}/bin"), name),
            ("/nix/store/a", name),
            (&*format!("{good}\\u0000"), name),
            ("../data/layer1/file1", outside),
            ("/etc/passwd", outside),
            ("", outside),
            (&*other, outside),
        ] {
            let shown = path.replace("\\u0000", "\0");
            let path_is_wrong = format!("store path {} is not valid: {why}", quoted(&shown));
            let error = read(&list(path, good)).unwrap_err();
            assert_eq!(error, format!("c.json, entry 1: {path_is_wrong}"));
            let error = read(&list(good, path)).unwrap_err();
            let expected = format!("c.json, entry 1 ({good}), references[1]: {path_is_wrong}");
            assert_eq!(error, expected);
            // Without a store, the store of the first entry counts.
            let error = Closure::read_of_one_store(&list(path, good), "c.json").map(drop).unwrap_err();
            assert_eq!(error.to_string(), format!("c.json, entry 1: {path_is_wrong}"));
        }
        let read =
            |text: &str| Closure::read_of_one_store(text, "c.json").map(drop).map_err(|e| e.to_string());
        read(&format!(r#"[{{"path": "{other}"}}]"#)).unwrap();
        read("[]").unwrap();
        for first in ["../data/layer1/file1", "/etc/passwd", "store/0123456789abcdfghijklmnpqrsvwxyz-a"] {
            let error = read(&format!(r#"[{{"path": "{first}"}}]"#)).unwrap_err();
            assert!(error.starts_with("c.json, entry 0: store "), "{error}");
            assert!(error.contains(&quoted(first)), "{error}");
        }
        let above = good.replace("/store", "/../store");
        assert!(read(&format!(r#"[{{"path": "{above}"}}]"#)).unwrap_err().contains("an absolute path"));
    }
}
