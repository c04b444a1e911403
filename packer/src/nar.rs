//! A store path's archive (NAR), whose hash Nix records. It contains names, contents, symlinks' targets and executable bits,
//! and nothing else. Source: Dolstra, "The Purely Functional Software Deployment Model" (2006), figure 5.2; the Nix manual,
//! "Nix Archive (NAR) format".

use sha2::{Digest as _, Sha256};

use crate::casehack::strip_case_hack;
use crate::walk::{Entry, Kind};

/// Builds an archive during the walk of its store path. The caller may take the bytes out of [`Archive::bytes`] at any time.
pub(crate) struct Archive {
    /// The bytes that the caller has not taken yet.
    pub(crate) bytes: Vec<u8>,
    /// Whether to remove the case hack's suffixes from names.
    case_hack: bool,
    /// Depth of the walk: the number of directories that it has entered and not left.
    inside: usize,
    /// Size and depth of the file whose content comes next.
    file: Option<(u64, usize)>,
}

impl Archive {
    pub(crate) fn new(case_hack: bool) -> Self {
        let mut archive = Self { bytes: Vec::new(), case_hack, inside: 0, file: None };
        archive.word(b"nix-archive-1");
        archive
    }

    /// Adds the walk's next entry. `below` is its path relative to the store path: empty, or with a leading slash.
    pub(crate) fn entry(&mut self, below: &[u8], entry: &Entry) {
        self.end_file();
        let depth = below.iter().filter(|byte| **byte == b'/').count();
        for _ in depth..self.inside {
            // Ends a directory that the walk left, and its entry in the parent directory.
            self.words(&[b")", b")"]);
        }
        self.inside = depth;
        if let Some(slash) = below.iter().rposition(|byte| *byte == b'/') {
            let name = &below[slash + 1..];
            self.words(&[b"entry", b"(", b"name"]);
            self.word(&if self.case_hack { strip_case_hack(name) } else { name.into() });
            self.word(b"node");
        }
        self.words(&[b"(", b"type"]);
        match &entry.kind {
            Kind::Directory => {
                self.word(b"directory");
                // The directory ends when the walk leaves it.
                self.inside += 1;
            }
            Kind::Symlink { target } => {
                self.words(&[b"symlink", b"target"]);
                self.word(target);
                self.end_node(depth);
            }
            Kind::Regular { size } => {
                self.word(b"regular");
                if entry.mode & 0o100 != 0 {
                    self.words(&[b"executable", b""]);
                }
                self.word(b"contents");
                self.length(*size);
                self.file = Some((*size, depth));
            }
        }
    }

    /// Ends the archive after the last entry.
    pub(crate) fn end(&mut self) {
        self.end_file();
        // The store path itself is not an entry of a directory.
        for at in (0..std::mem::take(&mut self.inside)).rev() {
            self.words(if at > 0 { &[b")", b")"] } else { &[b")"] });
        }
    }

    /// Ends the previous file after its content.
    fn end_file(&mut self) {
        if let Some((size, depth)) = self.file.take() {
            self.pad(size);
            self.end_node(depth);
        }
    }

    fn end_node(&mut self, depth: usize) {
        self.words(if depth > 0 { &[b")", b")"] } else { &[b")"] });
    }

    fn words(&mut self, words: &[&[u8]]) {
        words.iter().for_each(|word| self.word(word));
    }

    /// Adds a string: its length, its bytes, and zeros up to a multiple of 8.
    fn word(&mut self, word: &[u8]) {
        self.length(word.len() as u64);
        self.bytes.extend_from_slice(word);
        self.pad(word.len() as u64);
    }

    fn length(&mut self, length: u64) {
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    fn pad(&mut self, length: u64) {
        let zeros = length.next_multiple_of(8) - length;
        self.bytes.resize(self.bytes.len() + zeros as usize, 0);
    }
}

/// Hashes the archive of a directory with files that are neither executable nor links, while the caller passes their bytes.
pub struct DirectoryHash {
    archive: Archive,
    hasher: Sha256,
}

impl DirectoryHash {
    /// Begins with the directory.
    #[allow(clippy::new_without_default, reason = "an empty directory is not a default")]
    pub fn new() -> Self {
        let mut archive = Archive::new(false);
        archive.entry(b"", &Entry::new(Kind::Directory, 0o755));
        Self { archive, hasher: Sha256::new() }
    }

    /// Begins a file. The names are in byte order, and [`DirectoryHash::write`] gets exactly `size` bytes.
    pub fn file(&mut self, name: &str, size: u64) {
        self.archive.entry(format!("/{name}").as_bytes(), &Entry::new(Kind::Regular { size }, 0o644));
        self.take();
    }

    /// Adds bytes of the file.
    pub fn write(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Returns the SHA-256 of the archive.
    pub fn finish(mut self) -> [u8; 32] {
        self.archive.end();
        self.take();
        self.hasher.finalize().into()
    }

    fn take(&mut self) {
        self.hasher.update(&self.archive.bytes);
        self.archive.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use nixply_oci::Digest;

    use super::*;
    use crate::tar::OpenFile;
    use crate::walk::Walker;

    fn archive(path: &Path, case_hack: bool) -> Vec<u8> {
        let mut walker = Walker::new(b"/nix/store/x", path.into(), case_hack);
        let (mut archive, root) = (Archive::new(case_hack), walker.path().len());
        let mut chunk = vec![0; 4096];
        while let Some(entry) = walker.next().unwrap() {
            archive.entry(&walker.path()[root..], &entry);
            if let Kind::Regular { size: 1.. } = entry.kind {
                let mut file = OpenFile::of(&walker, &entry).unwrap();
                while !file.is_at_end() {
                    let read = file.read(&mut chunk).unwrap();
                    archive.bytes.extend_from_slice(&chunk[..read]);
                }
            }
        }
        archive.end();
        archive.bytes
    }

    fn tree(path: &Path, hacked: &str) {
        for directory in ["a", "a/b/c", "empty"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        for (name, content) in [
            ("a-", &b"hello"[..]),
            ("a.b", b"eight by"),
            ("a/b/c/deep", b"x"),
            ("a/program", b"#!/bin/sh\n"),
            ("large", &[7; 700_001]),
            ("nothing", b""),
            (hacked, b"hack"),
            ("\u{e4}", b"name"),
        ] {
            fs::write(path.join(name), content).unwrap();
        }
        for (name, mode) in [("a/program", 0o755), ("large", 0o655), ("a-", 0o444), ("nothing", 0o4744)] {
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("a/../a-", path.join("link")).unwrap();
    }

    /// The expected values are the output of `nix-store --dump TREE | sha256sum` with Nix 2.8.
    #[test]
    fn archives_equal_those_of_nix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::create_dir(&path).unwrap();
        tree(&path, "A-");
        let hash = |path: &Path| Digest::of(&archive(path, false)).hex();
        assert_eq!(hash(&path), "30568513541e31458971ba9e662b70504f69a878d0541dffe4ea7369c27b42c9");
        assert_eq!(
            hash(&path.join("a/program")),
            "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554"
        );
        assert_eq!(
            hash(&path.join("link")),
            "9c1e15a3858f5378a6d328dfc17b87f6180756309d90bc65b3fa433b95b6a6a8"
        );
        assert_eq!(
            hash(&path.join("empty")),
            "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"
        );
        assert_eq!(
            hash(&path.join("nothing")),
            "34e00b8592a6ad465851a46a67464e076102fd5106ca6cb33a2f15009d30d590"
        );
    }

    #[test]
    fn the_hash_of_a_directory_needs_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::create_dir(&path).unwrap();
        let mut hash = DirectoryHash::new();
        for (name, content) in
            [("0a", &b"eight by"[..]), ("f", b""), ("manifest.json", b"{}"), ("version", b"1\n")]
        {
            fs::write(path.join(name), content).unwrap();
            hash.file(name, content.len() as u64);
            hash.write(content);
        }
        assert_eq!(Digest::of(&archive(&path, false)).hex(), hex::encode(hash.finish()));
    }

    #[test]
    fn names_in_an_archive_have_no_case_hack() {
        let directory = tempfile::tempdir().unwrap();
        let [plain, hacked] = ["plain", "hacked"].map(|name| directory.path().join(name));
        for (path, name) in [(&plain, "A-"), (&hacked, "A-~nix~case~hack~1")] {
            fs::create_dir(path).unwrap();
            tree(path, name);
        }
        assert_eq!(archive(&hacked, true), archive(&plain, false));
        assert_ne!(archive(&hacked, false), archive(&plain, false));
    }
}
