//! Trees of files for tests, and a sink that keeps blobs in memory.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses a part")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nixply_packer::{BlobSink, BlobWriter, PackedLayer, Result};
use serde_json::Value;

/// A file or symlink. `write` creates it with its parent directories.
pub enum Tree {
    File { text: String, mode: u32 },
    Link { target: String },
}

impl Tree {
    pub fn write(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self {
            Self::File { text, mode } => {
                fs::write(path, text).unwrap();
                set_mode(path, *mode);
            }
            Self::Link { target } => symlink(target, path).unwrap(),
        }
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Creates the tree that a golden vector describes.
pub fn make(path: &Path, tree: &Value) {
    let mode = |default| tree["mode"].as_str().map_or(default, |mode| u32::from_str_radix(mode, 8).unwrap());
    match tree["type"].as_str().unwrap() {
        "directory" => {
            fs::create_dir(path).unwrap();
            for (name, entry) in tree["entries"].as_object().unwrap() {
                make(&path.join(os_name(name)), entry);
            }
            set_mode(path, mode(0o555));
        }
        "symlink" => symlink(os_name(tree["target"].as_str().unwrap()), path).unwrap(),
        "regular" => {
            match tree["sparse"].as_u64() {
                Some(size) => fs::File::create(path).unwrap().set_len(size).unwrap(),
                None => {
                    let repeat = tree["repeat"].as_u64().unwrap_or(1) as usize;
                    fs::write(path, tree["text"].as_str().unwrap().repeat(repeat)).unwrap();
                }
            }
            set_mode(path, mode(0o444));
        }
        other => panic!("{other}"),
    }
}

/// The vectors write bytes that are not UTF-8 like Python's surrogateescape. JSON readers of Rust refuse lone surrogates, so
/// [`unescape`] moves them to a private area first.
fn os_name(name: &str) -> OsString {
    let mut bytes = Vec::new();
    for c in name.chars() {
        match u32::from(c) {
            escaped @ 0x10_dc80..=0x10_dcff => bytes.push((escaped & 0xff) as u8),
            _ => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    OsString::from_vec(bytes)
}

/// Replaces `\udcXX` by the escape of a character that [`os_name`] converts to the byte XX.
pub fn unescape(json: &str) -> String {
    let mut out = String::new();
    let mut rest = json;
    while let Some(at) = rest.find("\\udc") {
        out.push_str(&rest[..at]);
        let byte = u32::from_str_radix(&rest[at + 4..at + 6], 16).unwrap();
        out.push(char::from_u32(0x10_dc00 + byte).unwrap());
        rest = &rest[at + 6..];
    }
    out + rest
}

/// Keeps blobs in memory.
#[derive(Default)]
pub struct Memory(Arc<Mutex<HashMap<usize, Vec<u8>>>>);

impl Memory {
    pub fn blob(&self, layer: usize) -> Vec<u8> {
        self.0.lock().unwrap()[&layer].clone()
    }
}

struct MemoryBlob(usize, Vec<u8>, Arc<Mutex<HashMap<usize, Vec<u8>>>>);

impl BlobSink for Memory {
    fn open(&self, layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(Some(Box::new(MemoryBlob(layer, Vec::new(), self.0.clone()))))
    }
}

impl BlobWriter for MemoryBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()> {
        assert_eq!(self.1.len() as u64, packed.size);
        self.2.lock().unwrap().insert(self.0, self.1);
        Ok(())
    }
}
