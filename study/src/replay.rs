//! Replays a history: plans each release and counts what it moves.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use nixply_documents::wording;
use nixply_planning::plan::{self, Lock, Member};
use nixply_planning::{Closure, PlannedPath, StorePath, Strategy};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::history::{History, Release};
use crate::metrics::ReleaseMetrics;
use crate::sizes::Sizes;

/// A way to plan each release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contender {
    /// Plans each image on its own with this strategy.
    Independent(Strategy),
    /// Plans all images together with `min-churn` and a lock file, which each release updates.
    Locked,
    /// Plans all images together with `min-churn`, without a lock file.
    Fleet,
    /// One layer per path regardless of the limit. No strategy moves less.
    Floor,
}

impl Contender {
    /// Name of [`Contender::Locked`].
    pub const LOCKED: &str = "min-churn+lock";

    /// Name of [`Contender::Fleet`].
    pub const FLEET: &str = "min-churn+fleet";

    /// Returns the strategies that can be contenders. `per-path` fails for closures with more paths than layers, which every study
    /// has.
    pub fn strategies() -> impl Iterator<Item = Strategy> {
        Strategy::automatic().filter(|strategy| *strategy != Strategy::PerPath)
    }

    /// Returns the name in reports.
    pub fn name(&self) -> String {
        match self {
            Self::Independent(strategy) => strategy.name().to_owned(),
            Self::Locked => Self::LOCKED.into(),
            Self::Fleet => Self::FLEET.into(),
            Self::Floor => "floor".into(),
        }
    }

    /// Returns the default contenders of a study.
    pub fn usual() -> Vec<Self> {
        vec![
            Self::Independent(Strategy::Popularity),
            Self::Independent(Strategy::AutoLayer),
            Self::Independent(Strategy::Size),
            Self::Independent(Strategy::MinChurn),
            Self::Locked,
        ]
    }

    /// Returns the contender with this name. Former names of strategies are valid, also before a plus sign.
    pub fn from_name(name: &str) -> Result<Self> {
        let renamed = Strategy::FORMER_NAMES.into_iter().find_map(|(former, strategy)| {
            let mode = name.strip_prefix(former)?.strip_prefix('+')?;
            Some(format!("{}+{mode}", strategy.name()))
        });
        match renamed.as_deref().unwrap_or(name) {
            Self::LOCKED => Ok(Self::Locked),
            Self::FLEET => Ok(Self::Fleet),
            "floor" => Err(Error::invalid("strategy \"floor\"", "it is part of every study")),
            _ => match Strategy::from_name(name) {
                Ok(Strategy::PerPath) => {
                    let why = "it fails for closures with more paths than layers; the floor, part of every study, moves the same";
                    Err(Error::invalid("strategy \"per-path\"", why))
                }
                Ok(strategy) if strategy != Strategy::Explicit => Ok(Self::Independent(strategy)),
                _ => {
                    let names = Self::strategies().map(Strategy::name).chain([Self::LOCKED, Self::FLEET]);
                    let names: Vec<&str> = names.collect();
                    let near = wording::nearest(name, names.iter().copied());
                    let suggestion = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                    let why = format!("expected one of {}{suggestion}", names.join(", "));
                    Err(Error::invalid(format!("strategy {name:?}"), why))
                }
            },
        }
    }
}

/// Result of a replay.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Measurements of each release.
    pub releases: Vec<ReleaseMetrics>,
    /// The layers of the last release, each once, the largest first.
    pub layers: Vec<Layer>,
}

/// A layer of the last release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Indices of the images that contain it.
    pub images: Vec<usize>,
    /// Size of its archives.
    pub bytes: u64,
    /// Number of paths.
    pub paths: usize,
    /// Number of releases after the first that changed the layer. A layer that is new in a release counts as a changed
    /// version of the previous release's layer with most of its bytes. Paths are compared by package name.
    pub changes: usize,
    /// Names of its largest paths, at most three.
    pub largest: Vec<String>,
}

/// Maximum number of paths in [`Layer::largest`].
const LARGEST: usize = 3;

type LayerId = blake3::Hash;

/// Identifies a layer by its paths: its bytes depend on nothing else.
fn layer_id(paths: &[PlannedPath]) -> LayerId {
    let mut names: Vec<&str> = paths.iter().map(|path| path.path.as_str()).collect();
    names.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes()).update(&[0]);
    }
    hasher.finalize()
}

/// Replays all releases of `history` with at most `max_layers` layers per image. Every client starts with the
/// first release; the first entry is the cost of the first push.
pub fn replay(history: &History, contender: &Contender, max_layers: usize) -> Result<Vec<ReleaseMetrics>> {
    Ok(Replay::of(history, contender, max_layers, &Sizes::default(), &|| ())?.releases)
}

/// An image's layers in a release.
#[derive(Debug, Default)]
struct ImageState {
    /// Number of releases that changed each layer.
    changes: HashMap<LayerId, usize>,
    /// The layer of each path, by the path's stable name.
    homes: HashMap<String, LayerId>,
}

impl Replay {
    /// Like [`replay`], and returns the last release's layers. `sizes` determines the size of a path, but
    /// does not affect planning. Calls `step` after each release.
    pub fn of(
        history: &History,
        contender: &Contender,
        max_layers: usize,
        sizes: &Sizes,
        step: &(dyn Fn() + Sync),
    ) -> Result<Self> {
        let mut lock: Option<Lock> = None;
        let mut registry: HashSet<LayerId> = HashSet::new();
        let mut in_registry = 0;
        let mut before: Vec<Option<ImageState>> = history.images.iter().map(|_| None).collect();
        let mut known_paths: HashSet<String> = HashSet::new();
        let mut replay = Self::default();
        for (number, release) in history.releases.iter().enumerate() {
            let started = Instant::now();
            let plans = plans(history, release, contender, max_layers, &mut lock)?;
            let mut moved = ReleaseMetrics { planning: started.elapsed(), ..ReleaseMetrics::default() };
            let mut stored: HashMap<LayerId, u64> = HashMap::new();
            let mut paths: HashMap<&str, u64> = HashMap::new();
            let mut next = Vec::with_capacity(plans.len());
            let mut last: HashMap<LayerId, Layer> = HashMap::new();
            for (image, (layers, closure)) in plans.iter().zip(&release.closures).enumerate() {
                let before = before[image].as_ref();
                let keys = plan::keys(closure);
                let mut now = ImageState::default();
                let mut pulled = 0;
                for layer in layers {
                    let id = layer_id(layer);
                    let mut bytes = 0;
                    for path in layer {
                        let size = closure.get(&path.path).map_or(0, |info| sizes.of(info));
                        bytes += size;
                        paths.insert(path.path.as_str(), size);
                    }
                    moved.alone += bytes;
                    let known = before.and_then(|before| before.changes.get(&id)).copied();
                    let changes = match (known, before) {
                        (Some(changes), _) => changes,
                        (None, Some(before)) => 1 + before.changes_of(layer, closure, &keys),
                        (None, None) => usize::from(number > 0),
                    };
                    if known.is_none() {
                        pulled += bytes;
                    }
                    if stored.insert(id, bytes).is_none() {
                        moved.stored += bytes;
                        moved.layers += 1;
                        moved.layers_changed += usize::from(known.is_none());
                        if registry.insert(id) {
                            moved.pushed += bytes;
                            if layer.iter().all(|path| known_paths.contains(path.path.as_str())) {
                                moved.churned += bytes;
                            }
                        }
                    }
                    now.changes.insert(id, changes);
                    for at in layer.iter().filter_map(|path| closure.place(&path.path)) {
                        now.homes.insert(keys[at].clone(), id);
                    }
                    if number + 1 == history.releases.len() {
                        let same = last.entry(id).or_insert_with(|| new_layer(layer, closure, bytes));
                        same.images.push(image);
                        same.changes = same.changes.max(changes);
                    }
                }
                if before.is_some() && !closure.is_empty() {
                    moved.pulled.push(pulled);
                }
                next.push((!closure.is_empty()).then_some(now));
            }
            in_registry += moved.pushed;
            moved.registry = in_registry;
            moved.ceiling = paths.values().sum();
            known_paths.extend(paths.into_keys().map(str::to_owned));
            before = next;
            replay.releases.push(moved);
            replay.layers = last.into_values().collect();
            step();
        }
        replay.layers.sort_by(|a, b| {
            b.bytes.cmp(&a.bytes).then_with(|| (&a.images, &a.largest).cmp(&(&b.images, &b.largest)))
        });
        Ok(replay)
    }
}

impl ImageState {
    /// Returns how often the predecessor of a new layer changed, or 0 if the layer has no predecessor.
    fn changes_of(&self, layer: &[PlannedPath], closure: &Closure, keys: &[String]) -> usize {
        let mut shares: HashMap<LayerId, u64> = HashMap::new();
        for path in layer.iter().map(|path| &path.path) {
            let home = closure.place(path).and_then(|at| self.homes.get(&keys[at]));
            if let Some((home, info)) = home.zip(closure.get(path)) {
                // A path without bytes counts too.
                *shares.entry(*home).or_default() += 1 + info.nar_size;
            }
        }
        let most = shares.into_iter().max_by_key(|(id, bytes)| (*bytes, *id.as_bytes()));
        most.and_then(|(id, _)| self.changes.get(&id)).copied().unwrap_or(0)
    }
}

/// Describes a layer; no image refers to it yet.
fn new_layer(layer: &[PlannedPath], closure: &Closure, bytes: u64) -> Layer {
    let mut paths: Vec<(u64, &StorePath)> = layer
        .iter()
        .map(|path| (closure.get(&path.path).map_or(0, |info| info.nar_size), &path.path))
        .collect();
    paths.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let largest = paths.iter().take(LARGEST).map(|(_, path)| path.name().to_owned()).collect();
    Layer { images: Vec::new(), bytes, paths: layer.len(), changes: 0, largest }
}

fn plans(
    history: &History,
    release: &Release,
    contender: &Contender,
    max_layers: usize,
    lock: &mut Option<Lock>,
) -> Result<Vec<plan::Plan>> {
    let failed = |image: &str, source: nixply_planning::Error| Error::Plan {
        strategy: contender.name(),
        release: release.name.clone(),
        image: image.to_owned(),
        source: Box::new(source),
    };
    let images = history.images.iter().zip(&release.closures);
    let all_paths = |closure: &Closure| {
        closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect()
    };
    let members = || -> Vec<Member<'_>> {
        images
            .clone()
            .map(|(name, closure)| Member { name, closure, paths: all_paths(closure), max_layers })
            .collect()
    };
    match contender {
        Contender::Independent(strategy) => images
            .map(|(image, closure)| {
                let options = plan::Options { strategy: *strategy, max_layers, ..plan::Options::default() };
                plan::plan(closure, &options).map_err(|source| failed(image, source))
            })
            .collect(),
        Contender::Floor => Ok(images
            .map(|(_, closure)| {
                closure
                    .iter()
                    .map(|info| vec![PlannedPath { path: info.path.clone(), options: None }])
                    .collect()
            })
            .collect()),
        Contender::Fleet => plan::plan_fleet(&members(), None).map_err(|source| failed("all", source)),
        Contender::Locked => {
            let members = members();
            let next = Lock::update(lock.as_ref(), &members).map_err(|source| failed("all", source))?;
            let plans = plan::plan_fleet(&members, Some(&next)).map_err(|source| failed("all", source))?;
            *lock = Some(next);
            Ok(plans)
        }
    }
}
