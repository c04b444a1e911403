//! The directories and links of layers, from the lowest layer up: they determine where an engine places files on top of a
//! base image. File contents are skipped, so memory depends only on the number of directories and links, and is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use tar::{EntryType, PaxExtensions};

use super::blob;
use super::layer_file::LayerFile;
use crate::control::Control;
use crate::error::{Error, Result};

/// Maximum number of links to follow for one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Maximum number of bytes in one image's names and targets: ten times as many as in a Debian desktop. A file with more is
/// not a layer.
const MAX_BYTES: usize = 64 << 20;

/// Maximum size of a name that comes before its file's header, in bytes.
const MAX_NAME_BYTES: u64 = 1 << 20;

/// Maximum number of bytes of names in the cache.
const MAX_CACHED_BYTES: usize = 8 << 20;

/// Marks in the cache: a directory that is not empty, and the prefix of a link's target.
const FULL: &str = "*";
const LINK: &str = "@";

/// A directory or link in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory {
        /// Whether the directory is not empty.
        has_files: bool,
    },
    Link {
        /// Target as written in the layer.
        target: Vec<u8>,
    },
}

/// Directories and links by path, such as `usr/bin`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    bytes: usize,
}

/// One entry of a layer.
enum Change {
    Node(Vec<u8>, Node),
    File(Vec<u8>),
    /// A whiteout of one name.
    Removed(Vec<u8>),
    /// A whiteout of everything that layers below have in a directory.
    Emptied(Vec<u8>),
}

impl Tree {
    /// Adds the layer in a file on top of the existing ones.
    pub(crate) fn add_layer(&mut self, file: LayerFile, control: &Control<'_>) -> Result<()> {
        let path = file.path().to_owned();
        let failed = |source| Error::io("read the layer", &path, source);
        let mut changes = Vec::new();
        let mut archive = tar::Archive::new(blob::tar_stream(file, control)?);
        let (mut name, mut target) = (None, None);
        let mut read = 0;
        // Reads the names before headers here, to limit their length.
        for entry in archive.entries().map_err(failed)?.raw(true) {
            control.check()?;
            let mut entry = entry.map_err(failed)?;
            let kind = entry.header().entry_type();
            match kind {
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {
                    let mut text = Vec::new();
                    entry.by_ref().take(MAX_NAME_BYTES).read_to_end(&mut text).map_err(failed)?;
                    let unended = || text.strip_suffix(b"\0").unwrap_or(&text).to_vec();
                    match kind {
                        EntryType::GNULongName => name = Some(unended()),
                        EntryType::GNULongLink => target = Some(unended()),
                        _ => {
                            for extension in PaxExtensions::new(&text).flatten() {
                                match extension.key_bytes() {
                                    b"path" => name = Some(extension.value_bytes().to_vec()),
                                    b"linkpath" => target = Some(extension.value_bytes().to_vec()),
                                    _ => {}
                                }
                            }
                        }
                    }
                    continue;
                }
                EntryType::XGlobalHeader => continue,
                _ => {}
            }
            let place = clean(&name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned()));
            let target =
                target.take().or_else(|| entry.header().link_name_bytes().map(|name| name.into_owned()));
            let Some(place) = place else { continue };
            read += place.len() + target.as_ref().map_or(0, Vec::len);
            if self.bytes + read > MAX_BYTES {
                let why = format!(
                    "the file names in the image have more than {} MiB, the maximum",
                    MAX_BYTES >> 20
                );
                return Err(Error::invalid(format!("layer file {}", path.display()), why));
            }
            changes.push(match (kind, split(&place)) {
                (_, (parent, b".wh..wh..opq")) => Change::Emptied(parent.to_vec()),
                (_, (parent, last)) if last.starts_with(b".wh.") => Change::Removed(join(parent, &last[4..])),
                (EntryType::Directory, _) => Change::Node(place, Node::Directory { has_files: false }),
                (EntryType::Symlink, _) => {
                    Change::Node(place, Node::Link { target: target.unwrap_or_default() })
                }
                _ => Change::File(place),
            });
        }
        self.bytes += read;
        // Whiteouts apply to the layers below, wherever they occur among the layer's own entries.
        let (whiteouts, own): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| matches!(change, Change::Removed(_) | Change::Emptied(_)));
        whiteouts.into_iter().chain(own).for_each(|change| self.apply(change));
        Ok(())
    }

    /// Adds a directory or link.
    pub(crate) fn add(&mut self, place: &[u8], node: Node) {
        if let Some(place) = clean(place) {
            self.apply(Change::Node(place, node));
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Emptied(place) => self.remove_below(&place),
            Change::Removed(place) => {
                self.nodes.remove(&place);
                self.remove_below(&place);
            }
            Change::File(place) => {
                self.nodes.remove(&place);
                self.remove_below(&place);
                self.note_parents(&place);
            }
            Change::Node(place, node) => {
                self.note_parents(&place);
                match (&node, self.nodes.get(&place)) {
                    // The existing directory keeps its content.
                    (Node::Directory { .. }, Some(Node::Directory { .. })) => {}
                    _ => {
                        self.remove_below(&place);
                        self.nodes.insert(place, node);
                    }
                }
            }
        }
    }

    /// Adds the directories above a path, which exist whether or not the layer names them.
    fn note_parents(&mut self, place: &[u8]) {
        let mut parent = split(place).0;
        while !parent.is_empty() {
            match self.nodes.get_mut(parent) {
                Some(Node::Directory { has_files: true }) => return,
                Some(Node::Directory { has_files }) => *has_files = true,
                // Engines unpack through a link, or replace it with a directory.
                Some(Node::Link { .. }) => return,
                None => {
                    self.nodes.insert(parent.to_vec(), Node::Directory { has_files: true });
                }
            }
            parent = split(parent).0;
        }
    }

    fn remove_below(&mut self, place: &[u8]) {
        let below = join(place, b"");
        let found: Vec<Vec<u8>> = self
            .nodes
            .range(below.clone()..)
            .map(|(place, _)| place)
            .take_while(|place| place.starts_with(&below))
            .cloned()
            .collect();
        for place in found {
            self.nodes.remove(&place);
        }
    }

    /// Returns the tree in the cache's form. Returns none if a name is not UTF-8, or if the names exceed the size of an
    /// entry.
    pub(crate) fn to_text(&self) -> Option<BTreeMap<String, String>> {
        let text = |(place, node): (&Vec<u8>, &Node)| {
            let node = match node {
                Node::Directory { has_files: false } => String::new(),
                Node::Directory { has_files: true } => FULL.to_owned(),
                Node::Link { target } => format!("{LINK}{}", std::str::from_utf8(target).ok()?),
            };
            Some((String::from_utf8(place.clone()).ok()?, node))
        };
        (self.bytes < MAX_CACHED_BYTES).then(|| self.nodes.iter().map(text).collect())?
    }

    /// Reads the result of [`Tree::to_text`].
    pub(crate) fn from_text(text: BTreeMap<String, String>) -> Self {
        let node = |(place, node): (String, String)| {
            let node = match node.strip_prefix(LINK) {
                Some(target) => Node::Link { target: target.into() },
                None => Node::Directory { has_files: node == FULL },
            };
            (place.into_bytes(), node)
        };
        Self { nodes: text.into_iter().map(node).collect(), bytes: 0 }
    }

    /// Returns all directories and links, in byte order of their paths.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(place, node)| (&place[..], node))
    }

    /// Returns the target of the link at `place`.
    pub(crate) fn link(&self, place: &[u8]) -> Option<&[u8]> {
        match self.nodes.get(place)? {
            Node::Link { target } => Some(target),
            Node::Directory { .. } => None,
        }
    }

    /// Returns the directory at `place`, following links within the image.
    pub(crate) fn directory(&self, place: &[u8]) -> Option<Vec<u8>> {
        self.resolved(Vec::new(), parts(place))
    }

    /// Returns the directory that a link at `place` with this target leads to.
    pub(crate) fn directory_of_link(&self, place: &[u8], target: &[u8]) -> Option<Vec<u8>> {
        let is_absolute = target.starts_with(b"/");
        let parent = if is_absolute { Vec::new() } else { self.directory(split(place).0)? };
        self.resolved(parent, parts(target))
    }

    fn resolved(&self, mut at: Vec<u8>, mut rest: VecDeque<Vec<u8>>) -> Option<Vec<u8>> {
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at = split(&at).0.to_vec();
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            match self.nodes.get(&next)? {
                Node::Directory { .. } => at = next,
                Node::Link { target } => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    let mut more = parts(target);
                    more.append(&mut rest);
                    rest = more;
                }
            }
        }
        Some(at)
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

/// Returns a path without leading and trailing slashes and without `.`. Returns none for the root, and for a path with `..`.
fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.is_empty() && !parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}

/// Returns a path's directory and its name in it.
pub(crate) fn split(place: &[u8]) -> (&[u8], &[u8]) {
    match place.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&place[..at], &place[at + 1..]),
        None => (b"", place),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::AtomicBool;

    use nixply_planning::Store;

    use super::*;

    /// Returns a layer with these entries: `name/`, `name -> target`, or a file.
    fn layer(entries: &[&str]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            match entry.split_once(" -> ") {
                Some((name, target)) => {
                    header.set_entry_type(EntryType::Symlink);
                    builder.append_link(&mut header, name, target).unwrap();
                }
                None => {
                    let is_directory = entry.ends_with('/');
                    header.set_entry_type(if is_directory {
                        EntryType::Directory
                    } else {
                        EntryType::Regular
                    });
                    builder.append_data(&mut header, entry, std::io::empty()).unwrap();
                }
            }
        }
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        file
    }

    fn tree(layers: &[&[&str]]) -> Tree {
        let stop = AtomicBool::new(false);
        let mut tree = Tree::default();
        for entries in layers {
            let file = layer(entries);
            let file = LayerFile::open(file.path().to_str().unwrap(), &Store::at("/nix/store")).unwrap();
            tree.add_layer(file, &Control::new(&stop, &())).unwrap();
        }
        tree
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let nodes = tree.nodes().map(|(place, node)| match node {
            Node::Directory { has_files: true } => format!("{}/", text(place)),
            Node::Directory { has_files: false } => format!("{}/ (empty)", text(place)),
            Node::Link { target } => format!("{} -> {}", text(place), text(target)),
        });
        nodes.collect()
    }

    #[test]
    fn upper_layers_change_lower_ones() {
        let base: &[&str] = &["./usr/bin/sh", "bin -> usr/bin", "etc/", "opt/a/b/", "opt/a/c", "var/"];
        assert_eq!(
            shown(&tree(&[base])),
            [
                "bin -> usr/bin",
                "etc/ (empty)",
                "opt/",
                "opt/a/",
                "opt/a/b/ (empty)",
                "usr/",
                "usr/bin/",
                "var/ (empty)"
            ]
        );
        let upper: &[&str] = &["opt/x -> a", "opt/.wh..wh..opq", ".wh.etc", "bin/", "var"];
        assert_eq!(shown(&tree(&[base, upper])), ["bin/ (empty)", "opt/", "opt/x -> a", "usr/", "usr/bin/"]);
        let long = "d/".repeat(120);
        let target = "t/".repeat(90);
        let entries = [format!("{long}l -> {target}"), format!("{long}e/")];
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let long = tree(&[&entries]);
        assert_eq!(shown(&Tree::from_text(long.to_text().unwrap())), shown(&long));
        let last = shown(&long).pop().unwrap();
        assert!(last.ends_with(&format!("d/l -> {target}")), "{last}");
    }

    #[test]
    fn directory_follows_links_within_the_image() {
        let tree = tree(&[&[
            "usr/bin/",
            "bin -> usr/bin",
            "sbin -> /bin",
            "up -> ../../../usr",
            "loop -> loop",
            "gone -> nowhere",
            "usr/local -> ../opt/",
            "opt/bin/",
        ]]);
        let directory =
            |place: &str| tree.directory(place.as_bytes()).map(|at| String::from_utf8(at).unwrap());
        for (place, at) in
            [("bin", "usr/bin"), ("sbin", "usr/bin"), ("up/bin", "usr/bin"), ("usr/local/bin", "opt/bin")]
        {
            assert_eq!(directory(place).as_deref(), Some(at), "{place}");
        }
        let of_link = |place: &str, target: &str| {
            let directory = tree.directory_of_link(place.as_bytes(), target.as_bytes());
            directory.map(|at| String::from_utf8(at).unwrap())
        };
        for target in ["usr/bin", "./usr/bin", "/usr/bin/", "usr/../sbin", "up/bin"] {
            assert_eq!(of_link("bin", target).as_deref(), Some("usr/bin"), "{target}");
        }
        assert_eq!(of_link("usr/lbin", "local/bin").as_deref(), Some("opt/bin"));
        assert_eq!((of_link("bin", "gone"), of_link("a/b", "usr")), (None, None));
        assert_eq!((directory("loop"), directory("gone"), directory("usr/bin/sh")), (None, None, None));
    }
}
