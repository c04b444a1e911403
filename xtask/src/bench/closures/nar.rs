//! Nix's archive of a store path, hashed as it is written: the reference manual's "Nix Archive (NAR) format".

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// A store path's `narHash`, as 32 bytes, and `narSize`.
pub(super) fn hash(path: &Path) -> Result<([u8; 32], u64)> {
    // Archives have many strings of a few bytes.
    let mut nar = Nar { out: io::BufWriter::with_capacity(1 << 16, Hasher(Sha256::new())), size: 0 };
    nar.text(b"nix-archive-1")?;
    nar.node(path).with_context(|| format!("cannot archive {}", path.display()))?;
    let hasher = nar.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((hasher.0.finalize().into(), nar.size))
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Nar {
    out: io::BufWriter<Hasher>,
    size: u64,
}

impl Nar {
    fn node(&mut self, path: &Path) -> Result<()> {
        let meta = fs::symlink_metadata(path)?;
        self.text(b"(")?;
        self.text(b"type")?;
        if meta.is_symlink() {
            self.text(b"symlink")?;
            self.text(b"target")?;
            self.text(fs::read_link(path)?.as_os_str().as_bytes())?;
        } else if meta.is_dir() {
            self.text(b"directory")?;
            let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                self.text(b"entry")?;
                self.text(b"(")?;
                self.text(b"name")?;
                self.text(entry.file_name().as_bytes())?;
                self.text(b"node")?;
                self.node(&entry.path())?;
                self.text(b")")?;
            }
        } else if meta.is_file() {
            self.text(b"regular")?;
            if meta.permissions().mode() & 0o100 != 0 {
                self.text(b"executable")?;
                self.text(b"")?;
            }
            self.text(b"contents")?;
            self.number(meta.len())?;
            let copied = io::copy(&mut File::open(path)?.take(meta.len()), &mut self.out)?;
            if copied != meta.len() {
                bail!("{} became shorter as it was read", path.display());
            }
            self.size += copied;
            self.pad(meta.len())?;
        } else {
            bail!("{} is neither a file nor a folder nor a symlink", path.display());
        }
        self.text(b")")
    }

    fn text(&mut self, text: &[u8]) -> Result<()> {
        let length = text.len() as u64;
        self.number(length)?;
        self.out.write_all(text)?;
        self.size += length;
        self.pad(length)
    }

    fn number(&mut self, number: u64) -> Result<()> {
        self.size += 8;
        Ok(self.out.write_all(&number.to_le_bytes())?)
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let padding = length.next_multiple_of(8) - length;
        self.size += padding;
        Ok(self.out.write_all(&[0; 8][..padding as usize])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_nix_store_dump() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b")).unwrap();
        fs::write(at("b/empty"), "").unwrap();
        fs::write(at("b/eight"), "12345678").unwrap();
        fs::write(at("run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(at("run"), fs::Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink("run", at("a")).unwrap();
        let (found, size) = hash(folder.path()).unwrap();
        // nix-store --dump FOLDER | sha256sum, | wc -c
        assert_eq!(hex::encode(found), "0616cede863de1dd4235688154a52bf77dd40ad73a3317ad43bdbebb6deaad4c");
        assert_eq!(size, 1064);
    }
}
