//! The base image of a request: its spec, the paths that the image need not pack again because the base image has them, and the
//! base image's files that the image's own layers hide.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytesize::ByteSize;
use nixply_documents::wording;
use nixply_files::open;
use nixply_oci::{DiffId, LINUX, Processor};
use nixply_planning::{Closure, PlannedPath, RewritePath, Store, StorePath, Strategy};

use super::layer::{LayerRequest, PlannedLayer};
use crate::control::Control;
use crate::error::{Error, Result, some};
use crate::image::layer_file::LayerFile;
use crate::image::spec::{ImageSpec, Layer};
use crate::image::tree::{Node, Tree, split};
use crate::pack::Packing;

/// Depth to which copies at the root are searched for links, in a base image made by nixply.
const MAX_DEPTH: usize = 3;

/// A base image.
pub(super) struct Base {
    pub(super) spec: ImageSpec,
    /// The argument, for messages.
    name: String,
}

impl Base {
    /// Reads the spec that `fromImage` names.
    pub(super) fn read(path: &str, store: &Store) -> Result<Self> {
        if !path.starts_with('/') {
            let why = "it is not the path of a file: pass the spec of a base image, such as pullImage makes from an image in a registry";
            return Err(Error::invalid(format!("fromImage {}", wording::quoted(path)), why));
        }
        let file = store.real_file(path);
        let failed = |source| Error::unreadable("fromImage (the base image's spec)", &file, source);
        let json = open::store_text(&store.real_dir, &file).map_err(failed)?;
        let name = format!("fromImage {path}");
        Ok(Self { spec: ImageSpec::read(&json, &name)?, name })
    }

    /// Checks that the base image's programs run on the image's own platform, according to its spec. For 32-bit ARM, a
    /// missing variant in the request is set to the base image's.
    pub(super) fn check_platform(&self, own: &mut Processor, any: bool) -> Result<()> {
        let platform = self.spec.platform();
        let (os, base) = (&platform.os, platform.processor());
        let wrong = |why: String| {
            let why = format!("{why}, or set anyPlatform = true for a base image without programs");
            Err(Error::invalid(&self.name, why))
        };
        if !any && os != LINUX {
            return wrong(format!(
                "the base image is for {os}/{base}, and the image is for linux/{own}: use a base image for linux"
            ));
        }
        if !any && !base.arch.is_empty() && !own.runs(&base) {
            return wrong(format!(
                "the base image is for linux/{base}, and the image is for linux/{own}: use the base image for linux/{own}, set \
                 arch = \"{base}\""
            ));
        }
        if own.arch == "arm" && own.variant.is_empty() && base.arch == "arm" {
            own.variant = base.variant;
        }
        Ok(())
    }

    /// Returns the paths that a layer omits because the base image has all of their files. nix2container omits none, so
    /// layers that must keep nix2container's digests omit none either: a layer with nix2container's strategy, and one with
    /// `parents` (as nix2container's functions make them) and no strategy.
    pub(super) fn paths_below(&self, layer: &LayerRequest, lower: &[LayerRequest]) -> Vec<&PlannedPath> {
        match layer.strategy {
            Some(Strategy::Popularity) => return Vec::new(),
            None if layer.parents.is_some() => return Vec::new(),
            _ => {}
        }
        // A layer in between could hide files at the root.
        let covered = lower.iter().any(|layer| !layer.copy_to_root.is_empty() || layer.prebuilt.is_some());
        let layers = &self.spec.layers;
        let whole = layers.iter().enumerate().filter(|(at, _)| {
            // The content of layers that other tools made is unknown.
            layers[at + 1..].iter().all(|above| !above.paths.is_empty())
        });
        let paths = whole.flat_map(|(at, layer)| {
            let hidden = covered || layers[at + 1..].iter().any(Layer::is_placed_freely);
            layer.paths.iter().filter(move |path| path.keeps_place() || !hidden)
        });
        paths.collect()
    }
}

/// Adds a warning for store paths that the image has twice. Returns all paths.
pub(super) fn paths_twice<'l>(
    layers: &'l [PlannedLayer],
    base_layers: usize,
    closure: &Closure,
    warnings: &mut Vec<String>,
) -> HashSet<&'l StorePath> {
    let mut there: HashMap<&StorePath, (usize, &PlannedPath)> = HashMap::new();
    let mut seen: HashSet<&[PlannedPath]> = HashSet::new();
    let (mut in_base, mut in_layers) = (Vec::new(), Vec::new());
    for (at, layer) in layers.iter().enumerate() {
        // An image contains equal layers only once.
        if !seen.insert(layer.paths()) {
            continue;
        }
        for path in layer.paths() {
            match there.insert(&path.path, (at, path)) {
                None => {}
                Some((_, below)) if below.options != path.options => warnings.push(format!(
                    "{} is in the image twice, with other perms or at another place. If both copies have a file, the one of \
                     the upper layer counts: set the same perms for both, or name the path in ignore",
                    path.path
                )),
                Some((below, _)) if below < base_layers && at >= base_layers => in_base.push(&path.path),
                Some(_) if at < base_layers => {}
                Some(_) => in_layers.push(&path.path),
            }
        }
    }
    for (paths, why) in [
        (
            in_base,
            "the base image has them already: set strategy = \"min-churn\" on the layer or image that packs them (the default of \
             nix2container's functions keeps nix2container's digests), and do not prebuild that layer",
        ),
        (
            in_layers,
            "layers that are not parents of each other have them: make one a parent of the other, or name the paths in ignore",
        ),
    ] {
        if !paths.is_empty() {
            let size = paths.iter().filter_map(|path| closure.get(path)).map(|info| info.nar_size).sum();
            let names: Vec<String> = paths.iter().map(|path| path.to_string()).collect();
            let count = match paths.len() {
                1 => "1 store path is".to_owned(),
                count => format!("{count} store paths are"),
            };
            let size = ByteSize(size).display().si();
            warnings.push(format!("{count} in the image twice ({size}), because {why}: {}", some(&names)));
        }
    }
    there.into_keys().collect()
}

/// Returns warnings about directories of the base image that become unreachable: an entry that `copyToRoot` puts at the root, or
/// the store directory, replaces a link to such a directory (Debian's `/bin`), or the directory itself. An engine puts the upper
/// layer's entry there. The packer does not follow the link, because a spec has no rule for that.
pub(super) fn hidden(
    layers: &[PlannedLayer],
    base_layers: usize,
    packing: &Packing<'_>,
) -> Result<Vec<String>> {
    let Packing { store, packer, control } = *packing;
    let (base, own) = layers.split_at(base_layers);
    let copies: Vec<&PlannedPath> =
        own.iter().flat_map(PlannedLayer::paths).filter(|path| is_at_root(path)).collect();
    let has_store = own.iter().flat_map(PlannedLayer::paths).any(PlannedPath::keeps_place);
    if base.is_empty() || (copies.is_empty() && !has_store) {
        return Ok(Vec::new());
    }
    let diff_ids: Vec<DiffId> = base
        .iter()
        .filter_map(|layer| match layer {
            PlannedLayer::Made(layer) => Some(layer.diff_id),
            PlannedLayer::ToPack(_) => None,
        })
        .collect();
    let known = packer.cache().and_then(|cache| cache.tree(&diff_ids)).map(Tree::from_text);
    let tree = match known {
        Some(tree) => tree,
        None => match tree_of(base, store, control) {
            Ok(tree) => {
                if let Some((cache, text)) = packer.cache().zip(tree.to_text()) {
                    cache.put_tree(&diff_ids, &text);
                }
                tree
            }
            // The code that reads the layer's files reports this.
            Err((_, Error::Missing { .. })) => return Ok(Vec::new()),
            Err((at, error)) => {
                control.check()?;
                let why = error.chain();
                return Ok(vec![format!(
                    "cannot read layer {} of the base image, so the image may hide its files: {why}",
                    at + 1
                )]);
            }
        },
    };
    let mut warnings = Vec::new();
    let mut reported: Vec<Vec<u8>> = Vec::new();
    if has_store {
        let linked = above(store).find_map(|place| Some((place, tree.link(place.as_bytes())?)));
        if let Some((place, target)) = linked {
            let hidden = match tree.directory(place.as_bytes()) {
                Some(directory) => {
                    format!(": the base image's files are then only in /{}", shown(&directory))
                }
                None => String::new(),
            };
            reported.push(place.into());
            warnings.push(format!(
                "the image's store paths are in {}, but the base image has a link to {} at /{place}. A directory replaces the \
                 link{hidden}. Use a base image without the link",
                store.dir,
                shown(target)
            ));
        }
    }
    for path in copies {
        let mut copy = Copy { root: store.real_path(&path.path), kinds: HashMap::new() };
        for (place, node) in tree.nodes() {
            let is_below = |upper: &Vec<u8>| {
                place.starts_with(upper) && matches!(place.get(upper.len()), None | Some(b'/'))
            };
            if reported.iter().any(is_below) {
                continue;
            }
            let Some(kind) = copy.kind(place) else { continue };
            let name = shown(place);
            let (path, what) = (&path.path, kind.name());
            let warning = match node {
                Node::Link { target } => {
                    let start = format!(
                        "{path} puts {what} at /{name}, where the base image has a link to {}",
                        shown(target)
                    );
                    match (tree.directory(place), &kind) {
                        (Some(directory), Kind::Link(own))
                            if tree.directory_of_link(place, own).as_ref() == Some(&directory) =>
                        {
                            continue;
                        }
                        (Some(directory), _) => format!(
                            "{start}. Then the base image's files are only in /{}: put the store path's files there too, or \
                             remove /{name} from copyToRoot",
                            shown(&directory)
                        ),
                        // The target is in none of the base image's layers, for example a directory that an engine mounts.
                        (None, Kind::Directory) => format!(
                            "{start}. The directory replaces the link: put the store path's files at the link's target, or \
                             remove /{name} from copyToRoot"
                        ),
                        (None, _) => continue,
                    }
                }
                Node::Directory { has_files: true } if !matches!(kind, Kind::Directory) => format!(
                    "{path} puts {what} at /{name}, where the base image has a directory. This hides its files: make it a \
                     directory, or remove /{name} from copyToRoot"
                ),
                Node::Directory { .. } => continue,
            };
            reported.push(place.to_vec());
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

/// Returns the directories from the root down to the store, such as `nix` and `nix/store`.
fn above(store: &Store) -> impl Iterator<Item = &str> {
    let dir = store.dir.trim_start_matches('/');
    dir.match_indices('/').map(|(at, _)| &dir[..at]).chain([dir])
}

/// Reads the directories and links of a base image. An error has the layer's position.
fn tree_of(base: &[PlannedLayer], store: &Store, control: &Control<'_>) -> Result<Tree, (usize, Error)> {
    let mut tree = Tree::default();
    for (at, layer) in base.iter().enumerate() {
        let added = match layer {
            PlannedLayer::Made(Layer { layer_path: Some(file), .. }) => {
                LayerFile::open(file, store).and_then(|file| tree.add_layer(file, control))
            }
            _ => add_paths(&mut tree, layer.paths(), store),
        };
        added.map_err(|error| (at, error))?;
    }
    Ok(tree)
}

/// Returns whether the path's content is at the root.
fn is_at_root(path: &PlannedPath) -> bool {
    let to_root = || RewritePath::to_root(path.path.as_str()).rewrite;
    path.options.as_ref().is_some_and(|options| options.rewrite == to_root())
}

/// Adds the upper directories and links of a base image's layer of store paths.
fn add_paths(tree: &mut Tree, paths: &[PlannedPath], store: &Store) -> Result<()> {
    for path in paths {
        let root = store.real_path(&path.path);
        if is_at_root(path) {
            add_directory(tree, &root, b"", MAX_DEPTH)
                .map_err(|source| Error::io("read directory", root, source))?;
        } else if path.keeps_place() {
            tree.add(path.path.as_str().as_bytes(), Node::Directory { has_files: false });
        }
    }
    Ok(())
}

fn add_directory(tree: &mut Tree, root: &Path, place: &[u8], depth: usize) -> io::Result<()> {
    let directory = root.join(std::ffi::OsStr::from_bytes(place));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // The base image's spec names the store path, but the path need not exist on this machine.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let place = if place.is_empty() { name.into_vec() } else { [place, name.as_bytes()].join(&b'/') };
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            let target = fs::read_link(entry.path())?.into_os_string().into_vec();
            tree.add(&place, Node::Link { target });
        } else if kind.is_dir() {
            tree.add(&place, Node::Directory { has_files: true });
            if depth > 1 {
                add_directory(tree, root, &place, depth - 1)?;
            }
        }
    }
    Ok(())
}

/// The kind of entry that a copy at the root has at a place.
#[derive(Clone)]
enum Kind {
    Directory,
    Link(Vec<u8>),
    File,
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::Link(_) => "a link",
            Self::File => "a file",
        }
    }
}

/// A store path whose content is at the root.
struct Copy {
    root: std::path::PathBuf,
    kinds: HashMap<Vec<u8>, Option<Kind>>,
}

impl Copy {
    fn kind(&mut self, place: &[u8]) -> Option<Kind> {
        if place.is_empty() {
            return Some(Kind::Directory);
        }
        if let Some(known) = self.kinds.get(place) {
            return known.clone();
        }
        let (parent, _) = split(place);
        let kind = match self.kind(parent) {
            Some(Kind::Directory) => {
                let file = self.root.join(std::ffi::OsStr::from_bytes(place));
                fs::symlink_metadata(&file).ok().map(|metadata| match metadata.file_type() {
                    kind if kind.is_dir() => Kind::Directory,
                    kind if kind.is_symlink() => {
                        Kind::Link(fs::read_link(&file).unwrap_or_default().into_os_string().into_vec())
                    }
                    _ => Kind::File,
                })
            }
            _ => None,
        };
        self.kinds.insert(place.to_vec(), kind.clone());
        kind
    }
}

/// Returns a name on one line. Control characters are escaped.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.into_owned() }
}
