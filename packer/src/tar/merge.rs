//! A layer's tree: the place of each store path, and the result if two paths have a file at the same place.
//!
//! A path that keeps its place is one node; the packer walks it when it reads the path's bytes. A rewritten path (`copyToRoot`) is
//! walked at once, and its files are merged into the tree. This takes memory per file, not per byte.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nixply_planning::Ownership;

use super::stream::{OpenFile, Reading};
use crate::casehack::strip_case_hack;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::layer_path::LayerPath;
use crate::store_check::StoreCheck;
use crate::walk::{Entry, Kind, Walker};

/// The content of one place of the layer's tree, in the order of the stream.
pub(super) enum Item<'l> {
    /// A directory that is in no path: mode 0755, owned by root.
    Parent,
    /// A single file of a rewritten path.
    File(Merged<'l>),
    /// A whole store path that keeps its place.
    Whole(&'l LayerPath),
}

/// A file that a rule placed, or a file merged with such files.
pub(super) struct Merged<'l> {
    pub(super) entry: Entry,
    pub(super) ownership: Ownership<'l>,
    /// Whether a rule determined the ownership.
    ruled: bool,
    /// Path of the file in the store.
    pub(super) source: Vec<u8>,
    /// Path of the file on this machine.
    pub(super) real_path: PathBuf,
    /// Path of its store path on this machine.
    pub(super) real_root: &'l Path,
    /// Hash of its content, if the packer checks the store.
    pub(super) content: Option<blake3::Hash>,
}

/// Number of bytes of a file to read at once.
const CHUNK: usize = 64 << 10;

#[derive(Default)]
struct Node<'l> {
    children: BTreeMap<Vec<u8>, Node<'l>>,
    item: Option<Item<'l>>,
}

/// Returns the flattened tree of `paths`: (place in the image, item), parents first, siblings in byte order.
pub(super) fn merge<'l>(paths: &'l [LayerPath], reading: Reading<'l>) -> Result<Vec<(Vec<u8>, Item<'l>)>> {
    let mut root = Node::default();
    // Whole paths first, because a rewritten file may be inside one of them.
    for path in paths.iter().filter(|path| path.rules.keeps_place()) {
        let place = path.path.as_str().as_bytes();
        // The same path twice, or one inside another. A store has no such paths, but relative paths can be like this.
        if let Some(outer) = root.unfold(place) {
            insert_files(&mut root, outer, reading)?;
            insert_files(&mut root, path, reading)?;
            continue;
        }
        let node = root.descend(place);
        if !node.children.is_empty() {
            insert_files(&mut root, path, reading)?;
        } else {
            node.item = Some(Item::Whole(path));
        }
    }
    for path in paths.iter().filter(|path| !path.rules.keeps_place()) {
        insert_files(&mut root, path, reading)?;
    }
    let mut items = Vec::new();
    for (name, node) in root.children {
        let place = if name.is_empty() { b"/".to_vec() } else { name };
        node.flatten(place, &mut items)?;
    }
    Ok(items)
}

fn insert_files<'l>(root: &mut Node<'l>, path: &'l LayerPath, reading: Reading<'l>) -> Result<()> {
    let Reading { control, .. } = reading;
    let mut walker = path.walk(control.case_hack);
    let mut check = reading.check_of(path);
    let mut at_root = true;
    while let Some(entry) = walker.next()? {
        control.check()?;
        if std::mem::take(&mut at_root) && path.directory_only {
            check_directory(path, &entry)?;
        }
        let content = match &mut check {
            Some(check) => checked_content(check, &walker, &entry, control)?,
            None => None,
        };
        let source = if control.case_hack { strip_case_hack(walker.path()) } else { walker.path().into() };
        let place = path.rules.place(&source);
        if place.is_empty() {
            continue;
        }
        let ruled = path.rules.ruled(&source, entry.mode);
        let merged = Merged {
            ruled: ruled.is_some(),
            ownership: ruled.unwrap_or_else(|| Ownership::root(entry.mode)),
            entry,
            source: source.to_vec(),
            real_path: walker.real_path(),
            real_root: &path.real_path,
            content,
        };
        root.insert(&place, merged, reading)?;
    }
    check.map_or(Ok(()), StoreCheck::finish)
}

/// Passes an entry and its content to the store check, and returns the content's hash: the packer reads the files of a merged tree
/// a second time, in an order that differs from their archive's.
fn checked_content(
    check: &mut StoreCheck<'_>,
    walker: &Walker,
    entry: &Entry,
    control: &Control<'_>,
) -> Result<Option<blake3::Hash>> {
    check.entry(walker, entry)?;
    let Kind::Regular { size: size @ 1.. } = entry.kind else { return Ok(None) };
    let (mut file, mut hasher) = (OpenFile::of(walker, entry)?, blake3::Hasher::new());
    let mut chunk = vec![0; usize::try_from(size).map_or(CHUNK, |size| size.min(CHUNK))];
    while !file.is_at_end() {
        control.check()?;
        let read = file.read(&mut chunk)?;
        check.content(&chunk[..read]);
        hasher.update(&chunk[..read]);
    }
    Ok(Some(hasher.finalize()))
}

/// Checks that a path of `copyToRoot` is a directory: only its content is copied, so a file or a symlink would be lost.
fn check_directory(path: &LayerPath, entry: &Entry) -> Result<()> {
    let kind = match entry.kind {
        Kind::Directory => return Ok(()),
        Kind::Regular { .. } => "a file",
        Kind::Symlink { .. } => "a symlink",
    };
    let why = format!(
        "it is {kind}, but copyToRoot needs a directory, whose content it puts at the image's root: put it into a directory, \
         for example with pkgs.runCommand or pkgs.linkFarm, or name its directory"
    );
    Err(Error::invalid(format!("copyToRoot {}", path.path), why))
}

/// Go's `filepath.Clean` and `strings.Split`: an absolute path begins with an empty component.
fn components(path: &[u8]) -> Vec<&[u8]> {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = if absolute { vec![b""] } else { Vec::new() };
    let base = parts.len();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.len() > base && parts.last() != Some(&&b".."[..]) => drop(parts.pop()),
            b".." if absolute => {}
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        parts.push(b".");
    }
    parts
}

impl<'l> Node<'l> {
    fn descend(&mut self, path: &[u8]) -> &mut Self {
        components(path).into_iter().fold(self, |node, part| node.children.entry(part.to_vec()).or_default())
    }

    fn insert(&mut self, place: &[u8], mut merged: Merged<'l>, reading: Reading<'l>) -> Result<()> {
        if let Some(whole) = self.unfold(place) {
            insert_files(self, whole, reading)?;
        }
        let node = self.descend(place);
        if let Some(Item::File(there)) = &node.item {
            check_same(place, there, &merged, reading.control)?;
            if there.ruled {
                (merged.ruled, merged.ownership) = (true, there.ownership.clone());
            }
        }
        node.item = Some(Item::File(merged));
        Ok(())
    }

    /// Removes the whole store path that contains `place`, so that its files can be inserted one by one.
    fn unfold(&mut self, place: &[u8]) -> Option<&'l LayerPath> {
        let mut node = self;
        for part in components(place) {
            node = node.children.get_mut(part)?;
            if let Some(Item::Whole(whole)) = node.item {
                node.item = None;
                return Some(whole);
            }
        }
        None
    }

    fn flatten(self, place: Vec<u8>, items: &mut Vec<(Vec<u8>, Item<'l>)>) -> Result<()> {
        if let (Some(Item::File(merged)), Some(child)) = (&self.item, self.children.keys().next())
            && merged.entry.kind != Kind::Directory
        {
            return Err(Error::Conflict(format!(
                "the file '{}' cannot be below '{}', which is not a directory; it comes from '{}'",
                text(&join(&place, child)),
                text(&place),
                text(&merged.source),
            )));
        }
        items.push((place.clone(), self.item.unwrap_or(Item::Parent)));
        for (name, child) in self.children {
            child.flatten(join(&place, &name), items)?;
        }
        Ok(())
    }
}

fn join(place: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if place.ends_with(b"/") { b"" } else { b"/" };
    [place, slash, name].concat()
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Checks that two files at one place are equal, because the image can have only one of them. nix2container compares mode and size
/// (the messages are the same) and keeps the last file. This compares the resulting owners and modes, not the rules
/// (nix2container#144). If only one path has rules for the file, those rules win (#201).
fn check_same(place: &[u8], there: &Merged<'_>, added: &Merged<'_>, control: &Control<'_>) -> Result<()> {
    let (old, new) = (text(&there.source), text(&added.source));
    let place = text(place);
    let (old_mode, new_mode) = (go_mode(&there.entry), go_mode(&added.entry));
    if old_mode != new_mode {
        return Err(Error::Conflict(format!(
            "the file '{place}' already exists in the graph with mode '{old_mode}' from '{old}' while it is added again \
             with mode '{new_mode}' by '{new}'"
        )));
    }
    match (&there.entry.kind, &added.entry.kind) {
        (Kind::Regular { size: old_size }, Kind::Regular { size: new_size }) if old_size != new_size => {
            return Err(Error::Conflict(format!(
                "the file '{place}' already exists in the graph with size '{old_size}' from '{old}' while it is added \
                 again with size '{new_size}' by '{new}'"
            )));
        }
        (Kind::Regular { .. }, Kind::Regular { .. }) if !same_content(there, added, control)? => {
            return Err(Error::Conflict(format!(
                "the file '{place}' already exists in the graph from '{old}' while it is added again with other content \
                 by '{new}'"
            )));
        }
        (Kind::Symlink { target: old_target }, Kind::Symlink { target: new_target })
            if old_target != new_target =>
        {
            return Err(Error::Conflict(format!(
                "the symlink '{place}' already exists in the graph with target '{}' from '{old}' while it is added again \
                 with target '{}' by '{new}'",
                text(old_target),
                text(new_target)
            )));
        }
        _ => {}
    }
    if there.ruled && added.ruled && there.ownership != added.ownership {
        let shown =
            |o: &Ownership<'_>| format!("{:04o} {}:{} ({}:{})", o.mode, o.uid, o.gid, o.uname, o.gname);
        return Err(Error::Conflict(format!(
            "the file '{place}' already exists in the tar with perms {} from '{old}' but is overridden with perms {} by \
             '{new}'",
            shown(&there.ownership),
            shown(&added.ownership)
        )));
    }
    Ok(())
}

/// Go's `FileMode.String`, as nix2container prints it.
fn go_mode(entry: &Entry) -> String {
    let mut shown = String::new();
    match entry.kind {
        Kind::Directory => shown.push('d'),
        Kind::Symlink { .. } => shown.push('L'),
        Kind::Regular { .. } => {}
    }
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if entry.mode & bit != 0 {
            shown.push(letter);
        }
    }
    if shown.is_empty() {
        shown.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        shown.push(if entry.mode & (0o400 >> at) != 0 { letter } else { '-' });
    }
    shown
}

/// Compares two files of equal size.
fn same_content(a: &Merged<'_>, b: &Merged<'_>, control: &Control<'_>) -> Result<bool> {
    if let (Some(a), Some(b)) = (a.content, b.content) {
        return Ok(a == b);
    }
    let (mut file_a, mut file_b) = (OpenFile::open(a)?, OpenFile::open(b)?);
    let (mut chunk_a, mut chunk_b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        control.check()?;
        let (read_a, read_b) = (file_a.read_full(&mut chunk_a)?, file_b.read_full(&mut chunk_b)?);
        if chunk_a[..read_a] != chunk_b[..read_b] {
            return Ok(false);
        }
        if read_a == 0 {
            return Ok(true);
        }
    }
}

impl LayerPath {
    /// Starts a walk of this path's files.
    pub(crate) fn walk(&self, case_hack: bool) -> Walker {
        Walker::new(OsStr::as_bytes(self.path.as_str().as_ref()), self.real_path.clone(), case_hack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Identity;

    /// nix2container's TestSplit.
    #[test]
    fn paths_split_as_in_go() {
        let split =
            |path: &str| components(path.as_bytes()).iter().map(|part| text(part)).collect::<Vec<_>>();
        assert_eq!(split("/nix"), ["", "nix"]);
        assert_eq!(split("/nix/store"), ["", "nix", "store"]);
        assert_eq!(split("/"), [""]);
        assert_eq!(split("relative"), ["relative"]);
        assert_eq!(split("relative/file"), ["relative", "file"]);
        assert_eq!(split("relative/file/"), ["relative", "file"]);
        assert_eq!(split("../data//./x/.."), ["..", "data"]);
        assert_eq!(split("/../a"), ["", "a"]);
        assert_eq!(split("."), ["."]);
    }

    #[test]
    fn modes_are_shown_as_in_go() {
        let shown = |kind, mode| go_mode(&Entry { kind, mode, identity: Identity::default() });
        assert_eq!(shown(Kind::Regular { size: 0 }, 0o444), "-r--r--r--");
        assert_eq!(shown(Kind::Regular { size: 0 }, 0o4755), "urwxr-xr-x");
        assert_eq!(shown(Kind::Directory, 0o1777), "dtrwxrwxrwx");
        assert_eq!(shown(Kind::Symlink { target: vec![] }, 0o777), "Lrwxrwxrwx");
    }
}
