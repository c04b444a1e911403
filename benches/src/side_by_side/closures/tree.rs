//! Creates, links, changes and removes file trees of a Nix store.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use xtask::host::{self, output, say};

/// Removes a read-only tree or a file, if it exists.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    output(Command::new("chmod").args(["-R", "u+w"]).arg(path))?;
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Sets the metadata that a tree has in a Nix store: read-only, not setuid, owned by root. Removes files that a store cannot
/// contain.
pub(super) fn make_canonical(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let is_whiteout = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".wh."));
    if is_whiteout || !(meta.is_symlink() || meta.is_dir() || meta.is_file()) {
        say(format!("omitting {}", path.display()));
        return if meta.is_dir() { remove_tree(path) } else { Ok(fs::remove_file(path)?) };
    }
    if host::is_root() {
        lchown(path, Some(0), Some(0))?;
    }
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            make_canonical(&entry?.path())?;
        }
    }
    let mode = if meta.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o555 } else { 0o444 };
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Creates a copy of a tree with hard links to its files.
pub(super) fn link_tree(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if !meta.is_dir() {
        return fs::hard_link(from, to).with_context(|| format!("cannot link {}", from.display()));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        link_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o555))?)
}

/// Replaces a tree's largest file by a copy that has the bytes of `with` in its middle.
pub(super) fn change_largest_file(path: &Path, with: &str) -> Result<()> {
    let file = largest_file(path)?;
    let directory = file.parent().context("the path is a file")?;
    let writable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory, writable.clone())?;
    let copy = directory.join(".changed");
    fs::copy(&file, &copy)?;
    let permissions = fs::metadata(&file)?.permissions();
    fs::set_permissions(&copy, writable)?;
    let length = fs::metadata(&copy)?.len();
    ensure!(length > 64 << 10, "{} is too small to be changed", file.display());
    let opened = fs::OpenOptions::new().write(true).open(&copy)?;
    opened.write_all_at(with.as_bytes(), length / 2)?;
    fs::set_permissions(&copy, permissions)?;
    fs::rename(&copy, &file)?;
    Ok(())
}

/// Returns a tree's largest file; of several, the first by name.
pub(super) fn largest_file(path: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    walk(path, &mut |path, meta| {
        if meta.is_file() {
            files.push((std::cmp::Reverse(meta.len()), path.to_path_buf()));
        }
    })?;
    match files.into_iter().min() {
        Some((_, file)) => Ok(file),
        None => bail!("{} has no file", path.display()),
    }
}

/// Calls a function for every entry of a tree.
pub(crate) fn walk(path: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    visit(path, &meta);
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_a_linked_copy_keeps_the_original() {
        let directory = tempfile::tempdir().unwrap();
        let (base, new) = (directory.path().join("base"), directory.path().join("new"));
        fs::create_dir_all(base.join("lib")).unwrap();
        fs::write(base.join("lib/big"), vec![7; 100_000]).unwrap();
        fs::write(base.join("lib/.wh.gone"), "").unwrap();
        fs::write(base.join("su"), "x").unwrap();
        fs::set_permissions(base.join("su"), fs::Permissions::from_mode(0o4755)).unwrap();
        make_canonical(&base).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&base), mode(&base.join("su")), mode(&base.join("lib/big"))), (0o555, 0o555, 0o444));
        assert!(!base.join("lib/.wh.gone").exists());

        link_tree(&base, &new).unwrap();
        change_largest_file(&new, "changed").unwrap();
        make_canonical(&new).unwrap();
        assert_eq!(fs::read(base.join("lib/big")).unwrap(), vec![7; 100_000]);
        let changed = fs::read(new.join("lib/big")).unwrap();
        assert_eq!((&changed[50_000..50_007], changed.len()), (&b"changed"[..], 100_000));
        remove_tree(&base).unwrap();
        remove_tree(&new).unwrap();
    }
}
