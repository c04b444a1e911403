//! A store path's archive (NAR), of which Nix knows the hash. It has names, contents, symlinks' targets and executable bits,
//! and nothing else. Source: Dolstra, "The Purely Functional Software Deployment Model" (2006), figure 5.2; the Nix manual,
//! "Nix Archive (NAR) format".

use crate::error::Result;
use crate::tar::{FileKind, OpenFile, Walker, strip_case_hack};

/// How many bytes are handed out at once, at most.
const PIECE: usize = 256 << 10;

/// Hands out the archive of the store path that `walker` is about to walk, piece by piece. With `case_hack`, names are those
/// without its suffixes.
pub(crate) fn write(
    mut walker: Walker,
    case_hack: bool,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let root = walker.path().len();
    let mut out = Out { pending: Vec::new(), take };
    let mut buffer = vec![0; PIECE];
    // How many directories the walk is in, as far as it has been handed out.
    let mut inside = 0;
    out.word(b"nix-archive-1");
    while let Some(entry) = walker.next()? {
        let below = &walker.path()[root..];
        let depth = below.iter().filter(|byte| **byte == b'/').count();
        for _ in depth..inside {
            // A directory that is left, and its entry in the one around it.
            out.words(&[b")", b")"]);
        }
        inside = depth;
        if let Some(slash) = below.iter().rposition(|byte| *byte == b'/') {
            let name = &below[slash + 1..];
            out.words(&[b"entry", b"(", b"name"]);
            out.word(&if case_hack { strip_case_hack(name) } else { name.into() });
            out.word(b"node");
        }
        out.words(&[b"(", b"type"]);
        match entry.kind {
            FileKind::Directory => {
                out.word(b"directory");
                inside += 1;
                // Its end comes when it is left.
                continue;
            }
            FileKind::Symlink { target } => {
                out.words(&[b"symlink", b"target"]);
                out.word(&target);
            }
            FileKind::Regular { size } => {
                out.word(b"regular");
                if entry.mode & 0o100 != 0 {
                    out.words(&[b"executable", b""]);
                }
                out.word(b"contents");
                out.length(size);
                if size > 0 {
                    let mut file = OpenFile::of(&walker, size)?;
                    while !file.is_at_end() {
                        let read = file.read(&mut buffer)?;
                        out.bytes(&buffer[..read])?;
                    }
                }
                out.pad(size);
            }
        }
        out.word(b")");
        if depth > 0 {
            out.word(b")");
        }
        out.flush_if(PIECE)?;
    }
    // The store path itself is no entry.
    for at in (0..inside).rev() {
        out.words(if at > 0 { &[b")", b")"] } else { &[b")"] });
    }
    out.flush_if(1)
}

/// What is on its way out.
struct Out<'t> {
    pending: Vec<u8>,
    take: &'t mut dyn FnMut(&[u8]) -> Result<()>,
}

impl Out<'_> {
    fn words(&mut self, words: &[&[u8]]) {
        words.iter().for_each(|word| self.word(word));
    }

    /// A string: its length, its bytes, and zeros up to a multiple of 8.
    fn word(&mut self, word: &[u8]) {
        self.length(word.len() as u64);
        self.pending.extend_from_slice(word);
        self.pad(word.len() as u64);
    }

    fn length(&mut self, length: u64) {
        self.pending.extend_from_slice(&length.to_le_bytes());
    }

    fn pad(&mut self, length: u64) {
        let zeros = length.next_multiple_of(8) - length;
        self.pending.resize(self.pending.len() + zeros as usize, 0);
    }

    /// Bytes of a file, which are handed out at once.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.flush_if(1)?;
        (self.take)(bytes)
    }

    fn flush_if(&mut self, least: usize) -> Result<()> {
        if self.pending.len() >= least {
            (self.take)(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::digest::Digest;

    fn archive(path: &Path, case_hack: bool) -> Vec<u8> {
        let (mut archive, walker) = (Vec::new(), Walker::new(b"/nix/store/x", path.into(), case_hack));
        write(walker, case_hack, &mut |bytes| {
            archive.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        archive
    }

    fn tree(path: &Path, hacked: &str) {
        for folder in ["a", "a/b/c", "empty"] {
            fs::create_dir_all(path.join(folder)).unwrap();
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

    /// What `nix-store --dump TREE | sha256sum` of Nix 2.8 prints.
    #[test]
    fn archives_are_nixs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
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
    fn names_in_an_archive_have_no_case_hack() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, hacked] = ["plain", "hacked"].map(|name| folder.path().join(name));
        for (path, name) in [(&plain, "A-"), (&hacked, "A-~nix~case~hack~1")] {
            fs::create_dir(path).unwrap();
            tree(path, name);
        }
        assert_eq!(archive(&hacked, true), archive(&plain, false));
        assert_ne!(archive(&hacked, false), archive(&plain, false));
    }
}
