//! Explains an image from its layers and its closure: why it contains a path, which other paths that path brings, and which layer
//! has it. Reads no files.
//!
//! The size of a store path is its archive's (`narSize`), which is close to the size of the unpacked files.

mod dominators;
mod find;
mod overview;
mod path;

use std::collections::{HashMap, HashSet};

use nixply_documents::go_json;
use nixply_oci::Digest;
use nixply_packer::request::{ImagePlan, PlannedLayer};
use nixply_packer::{Error, ImageRequest, ImageSpec, Layer, Result};
use nixply_planning::plan::Graph;
use nixply_planning::{Closure, PlannedPath, RewritePath, Store, StorePath};
use serde::Serialize;

use self::dominators::Dominators;
pub use self::find::Found;
pub use self::overview::{DominatorSummary, LayerSummary, Overview};
pub use self::path::{LayerMates, PathReport};

/// A store path and the size of its archive in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SizedPath {
    /// The path.
    pub path: StorePath,
    /// Its archive's size in bytes.
    pub nar_size: u64,
}

/// A layer's blob. A planned layer has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LayerBlob {
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its size in bytes, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `tar`, or the codec's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
}

/// A layer of the explained image.
#[derive(Debug)]
struct ExplainedLayer {
    blob: LayerBlob,
    created_by: String,
    places: Vec<usize>,
}

/// An image with its closure, ready for questions.
#[derive(Debug)]
pub struct Explained {
    closure: Closure,
    /// All references: a path changes with the paths that it refers to.
    graph: Graph,
    /// The references that bring paths into the image: all except those of a Nix database, which only lists existing paths.
    bringing: Graph,
    layers: Vec<ExplainedLayer>,
    /// The layers that contain each place of the closure. Ignored paths are in none.
    layers_of: Vec<Vec<usize>>,
    /// The paths that the image's request or config names, each with the field that names it, in the order of reports.
    roots: Vec<(usize, String)>,
    dominators: Dominators,
}

impl Explained {
    /// Explains a built image. `closure` contains at least the closures of its paths.
    ///
    /// # Errors
    ///
    /// Fails if `closure` lacks a path of the image or of its paths' closures, or has a cycle.
    pub fn of_spec(spec: &ImageSpec, closure: &Closure, store: &Store) -> Result<Self> {
        let layers: Vec<Piece<'_>> = spec.layers.iter().map(Piece::of_layer).collect();
        Self::new(&layers, &config_texts(&spec.config), &[], closure, store)
    }

    /// Explains a planned image.
    ///
    /// # Errors
    ///
    /// Like [`Explained::of_spec`].
    pub fn of_plan(
        request: &ImageRequest,
        plan: &ImagePlan,
        closure: &Closure,
        store: &Store,
    ) -> Result<Self> {
        let layers = plan.layers.iter().map(|layer| match layer {
            PlannedLayer::Made(layer) => Piece::of_layer(layer),
            PlannedLayer::ToPack(layer) => Piece { made: None, paths: &layer.paths },
        });
        let named = |paths: &[String], what: String| -> Result<Vec<_>> {
            paths.iter().map(|path| Ok((store.check(path)?, what.clone()))).collect()
        };
        let mut roots = named(&request.copy_to_root, "copyToRoot".into())?;
        for (at, layer) in request.layers.iter().enumerate() {
            for (argument, paths) in layer.roots().into_iter().rev() {
                roots.extend(named(paths, format!("layers[{at}].{argument}"))?);
            }
        }
        let layers: Vec<Piece<'_>> = layers.collect();
        Self::new(&layers, &config_texts(&plan.config), &roots, closure, store)
    }

    fn new(
        layers: &[Piece<'_>],
        config: &[(String, Vec<u8>)],
        roots: &[(StorePath, String)],
        closure: &Closure,
        store: &Store,
    ) -> Result<Self> {
        let paths = || layers.iter().flat_map(|layer| layer.paths);
        if let Some(path) = paths().find(|path| closure.get(&path.path).is_none()) {
            let why =
                format!("it lacks {}, which the image has: pass the closure of all its paths", path.path);
            return Err(Error::invalid("closure", why));
        }
        let closure = closure.of_roots(paths().map(|path| &path.path), "the image")?;
        let databases: HashSet<&StorePath> =
            paths().filter(|path| is_nix_database(path)).map(|path| &path.path).collect();
        let graph = Graph::new(&closure);
        let bringing = Graph::new(&Closure::new(closure.iter().cloned().map(|mut info| {
            if databases.contains(&info.path) {
                info.references.clear();
            }
            info
        })));
        let place = |path: &StorePath| closure.place(path);
        let mut layers_of = vec![Vec::new(); closure.len()];
        let explained = layers.iter().enumerate().map(|(number, layer)| {
            let places: Vec<usize> = layer.paths.iter().filter_map(|path| place(&path.path)).collect();
            for at in &places {
                layers_of[*at].push(number);
            }
            let made = layer.made;
            ExplainedLayer {
                blob: LayerBlob {
                    digest: made.map(|made| made.digest),
                    size: made.map(|made| made.size).filter(|size| *size > 0),
                    encoding: made.map(Layer::encoding),
                },
                created_by: made.map(|made| made.history.created_by.clone()).unwrap_or_default(),
                places,
            }
        });
        let explained: Vec<ExplainedLayer> = explained.collect();

        let mut named: Vec<(usize, String)> = Vec::new();
        for (field, text) in config {
            let paths = closure.referred_to_by(text, store);
            named.extend(paths.iter().filter_map(place).map(|at| (at, format!("config.{field}"))));
        }
        named.extend(roots.iter().filter_map(|(path, what)| Some((place(path)?, what.clone()))));
        // A spec does not contain copyToRoot itself, only the paths that it put at the root.
        let known: HashSet<usize> =
            named.iter().filter(|(_, what)| what.ends_with("copyToRoot")).map(|(at, _)| *at).collect();
        let at_root = paths().filter(|path| is_at_root(path)).filter_map(|path| place(&path.path));
        let at_root: Vec<usize> = at_root.filter(|at| !known.contains(at)).collect();
        named.extend(at_root.into_iter().map(|at| (at, "copyToRoot".to_owned())));
        // The remaining paths were named in a list that the spec does not contain.
        let mut reached = vec![false; closure.len()];
        for at in bringing.below(named.iter().map(|(at, _)| *at)) {
            reached[at] = true;
        }
        let unnamed = (0..closure.len())
            .filter(|at| !reached[*at] && bringing.referrers(*at).iter().all(|from| reached[*from]));
        let unnamed: Vec<usize> = unnamed.collect();
        named.extend(unnamed.into_iter().map(|at| (at, "deps".to_owned())));
        let mut seen = HashSet::new();
        named.retain(|root| seen.insert(root.clone()));

        let places: Vec<usize> = named.iter().map(|(at, _)| *at).collect();
        let dominators = Dominators::new(&closure, &bringing, &places)?;
        Ok(Self { closure, graph, bringing, layers: explained, layers_of, roots: named, dominators })
    }

    fn path_at(&self, at: usize) -> &StorePath {
        &self.closure.at(at).path
    }

    /// Returns the archive's size of a path in the image, and 0 for an ignored path.
    fn size_at(&self, at: usize) -> u64 {
        if self.layers_of[at].is_empty() { 0 } else { self.closure.at(at).nar_size }
    }

    fn sized(&self, at: usize) -> SizedPath {
        SizedPath { path: self.path_at(at).clone(), nar_size: self.size_at(at) }
    }

    /// Returns paths with their sizes, the largest first, then by name.
    fn by_size(&self, places: impl IntoIterator<Item = usize>) -> Vec<SizedPath> {
        let mut paths: Vec<SizedPath> = places.into_iter().map(|at| self.sized(at)).collect();
        paths.sort_by(|a, b| (b.nar_size, a.path.name(), &a.path).cmp(&(a.nar_size, b.path.name(), &b.path)));
        paths
    }

    /// Returns the numbers (from 1) of the layers that contain a path.
    fn numbers(&self, at: usize) -> Vec<usize> {
        self.layers_of[at].iter().map(|layer| layer + 1).collect()
    }

    /// Returns the fields that name the path.
    fn named_by(&self, at: usize) -> Vec<String> {
        self.roots.iter().filter(|(root, _)| *root == at).map(|(_, what)| what.clone()).collect()
    }

    /// Iterates over the places that are in a layer.
    fn in_image(&self) -> impl Iterator<Item = usize> {
        (0..self.closure.len()).filter(|at| !self.layers_of[*at].is_empty())
    }

    /// Returns the number of layers.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Returns labels for the closure's paths: their names, with a part of the hash if two paths have the same name.
    pub fn labels(&self) -> Labels {
        Labels::new(self.closure.iter().map(|info| &info.path))
    }
}

/// A packed or planned layer.
struct Piece<'p> {
    made: Option<&'p Layer>,
    paths: &'p [PlannedPath],
}

impl<'p> Piece<'p> {
    fn of_layer(layer: &'p Layer) -> Self {
        Self { made: Some(layer), paths: &layer.paths }
    }
}

/// Returns the fields of a config with their text.
fn config_texts(config: &impl Serialize) -> Vec<(String, Vec<u8>)> {
    match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => {
            fields.into_iter().map(|(field, value)| (field, go_json::compact(&value))).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns whether a path's content is at the image's root.
fn is_at_root(path: &PlannedPath) -> bool {
    let to_root = RewritePath::to_root(path.path.as_str()).rewrite;
    path.options.as_ref().is_some_and(|options| options.rewrite == to_root)
}

/// Returns whether a path is a Nix database, as nixply and nix2container make it. It refers to all paths that it lists.
fn is_nix_database(path: &PlannedPath) -> bool {
    path.path.name() == "nix-database" && is_at_root(path)
}

/// Short labels of store paths: their names, with the beginning of the hash if two have the same name.
#[derive(Debug)]
pub struct Labels(HashMap<String, usize>);

impl Labels {
    /// Makes labels for paths of one report.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p StorePath>) -> Self {
        let paths: HashSet<&StorePath> = paths.into_iter().collect();
        let mut names = HashMap::new();
        for path in paths {
            *names.entry(path.name().to_owned()).or_default() += 1;
        }
        Self(names)
    }

    /// Returns a path's label.
    pub fn of(&self, path: &StorePath) -> String {
        const HASH: usize = 8;
        let name = path.name();
        let base = path.base();
        match base.get(..HASH) {
            Some(hash) if self.0.get(name).is_some_and(|alike| *alike > 1) => format!("{name} ({hash}...)"),
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nixply_planning::PathInfo;

    use super::*;

    fn path(hash: char, name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", hash.to_string().repeat(32))).unwrap()
    }

    /// Returns an image of an application, with a database of all its paths at the root.
    fn image() -> Explained {
        let [app, lib, database] = [path('a', "app"), path('b', "lib"), path('c', "nix-database")];
        let info = |path: &StorePath, references: &[&StorePath]| PathInfo {
            path: path.clone(),
            references: references.iter().map(|path| (*path).clone()).collect(),
            nar_hash: String::new(),
            nar_size: 10,
        };
        let closure = Closure::new([info(&app, &[&lib]), info(&lib, &[]), info(&database, &[&app, &lib])]);
        let digest = format!("sha256:{}", "0".repeat(64));
        let to_root = RewritePath::to_root(database.as_str()).rewrite;
        let spec = serde_json::json!({"version": 1, "image-config": {"Cmd": [app]}, "layers": [
            {"digest": digest, "diff_ids": digest, "mediatype": "m", "paths": [{"path": lib}, {"path": app}]},
            {"digest": digest, "diff_ids": digest, "mediatype": "m",
                "paths": [{"path": database, "options": {"rewrite": to_root}}]},
        ]});
        let spec = ImageSpec::read(&spec.to_string(), "image").unwrap();
        Explained::of_spec(&spec, &closure, &Store::at("/nix/store")).unwrap()
    }

    #[test]
    fn a_nix_database_changes_with_every_path_but_brings_none() {
        let image = image();
        let lib = image.path(&path('b', "lib")).unwrap();
        assert_eq!(lib.chain, [path('a', "app"), path('b', "lib")]);
        assert_eq!((lib.referrers, lib.dependents), (vec![path('a', "app")], 1));
        assert_eq!(image.path(&path('a', "app")).unwrap().only_size, 20);
        let database = image.path(&path('c', "nix-database")).unwrap();
        assert_eq!((&database.named_by[..], database.only_size), (&["copyToRoot".to_owned()][..], 10));
        assert_eq!(database.layers[0].path_changes_with, 3);
    }

    #[test]
    fn labels_have_hashes_if_names_are_equal() {
        let paths = [path('a', "source"), path('b', "source"), path('c', "lib"), path('c', "lib")];
        let labels = Labels::new(&paths);
        let shown: Vec<String> = paths.iter().map(|path| labels.of(path)).collect();
        assert_eq!(shown, ["source (aaaaaaaa...)", "source (bbbbbbbb...)", "lib", "lib"]);
    }
}
