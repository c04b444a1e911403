//! Replays a history: plans each release and counts what it moves.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use nixply_packer::closure::{Closure, StorePath};
use nixply_packer::plan::{self, Lock, Member, PlannedPath, Strategy};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::history::{History, Release};
use crate::metrics::ReleaseMetrics;
use crate::sizes::Sizes;

/// What a strategy is asked to do at each release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contender {
    /// Plan each image anew.
    Independent(Strategy),
    /// `nixply`, with a lock file that is updated at each release, all images together.
    Locked,
    /// Plan with `nixply`, all images together, without a lock file.
    Fleet,
    /// A layer for each path, whatever the limit: no strategy moves less.
    Floor,
}

impl Contender {
    /// Its name in reports.
    pub fn name(&self) -> String {
        match self {
            Self::Independent(strategy) => strategy.name().to_owned(),
            Self::Locked => "nixply+lock".into(),
            Self::Fleet => "nixply+fleet".into(),
            Self::Floor => "floor".into(),
        }
    }

    /// Those that a study has if nobody names any.
    pub fn usual() -> Vec<Self> {
        vec![
            Self::Independent(Strategy::Popularity),
            Self::Independent(Strategy::AutoLayer),
            Self::Independent(Strategy::Size),
            Self::Independent(Strategy::Nixply),
            Self::Locked,
        ]
    }

    /// The contender of this name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "nixply+lock" => Ok(Self::Locked),
            "nixply+fleet" => Ok(Self::Fleet),
            "floor" => Err(Error::invalid("strategy \"floor\"", "it is part of every study")),
            _ => match Strategy::from_name(name) {
                // A closure with more paths than layers is an error to it, and every study has one of those.
                Ok(Strategy::PerPath) => {
                    let why = "more paths than layers are an error to it; the floor, part of every study, is what it moves";
                    Err(Error::invalid("strategy \"per-path\"", why))
                }
                Ok(strategy) => Ok(Self::Independent(strategy)),
                Err(_) => {
                    let ours = ["nixply+lock", "nixply+fleet"];
                    let names = Strategy::NAMES.into_iter().filter(|name| *name != "per-path").chain(ours);
                    let why = format!("expected one of {}", names.collect::<Vec<_>>().join(", "));
                    Err(Error::invalid(format!("strategy {name:?}"), why))
                }
            },
        }
    }
}

/// What a replay has found.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// What each release moved.
    pub releases: Vec<ReleaseMetrics>,
    /// The layers of the last release, each once, the largest first.
    pub layers: Vec<Layer>,
}

/// A layer of the last release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The images that have it, by number.
    pub images: Vec<usize>,
    /// Of its archives.
    pub bytes: u64,
    /// How many paths it has.
    pub paths: usize,
    /// How many releases after the first one have made it anew. In the release before it was the layer that had most of its bytes, by
    /// the names of packages.
    pub changes: usize,
    /// Names of its largest paths, at most three.
    pub largest: Vec<String>,
}

/// How many paths [`Layer::largest`] has at most.
const LARGEST: usize = 3;

type LayerId = blake3::Hash;

/// A layer by its paths: its bytes depend on nothing else.
fn layer_id(paths: &[PlannedPath]) -> LayerId {
    let mut names: Vec<&str> = paths.iter().map(|path| path.path.as_str()).collect();
    names.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes()).update(&[0]);
    }
    hasher.finalize()
}

/// Replays all releases of `history` with at most `max_layers` layers an image. The first release is what everybody has; its
/// entry tells what the first push costs.
pub fn replay(history: &History, contender: &Contender, max_layers: usize) -> Result<Vec<ReleaseMetrics>> {
    Ok(Replay::of(history, contender, max_layers, &Sizes::default(), &|| ())?.releases)
}

/// An image's layers in a release.
#[derive(Debug, Default)]
struct ImageState {
    /// How many releases have made each anew.
    changes: HashMap<LayerId, usize>,
    /// Where each path is, by the name that it keeps.
    homes: HashMap<String, LayerId>,
}

impl Replay {
    /// As [`replay`], and with the last release's layers. What is moved counts by `sizes`, which planning knows nothing of. `step` is called after each release.
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
    /// How often that layer changed which a new one comes from; 0 if from none.
    fn changes_of(&self, layer: &[PlannedPath], closure: &Closure, keys: &[String]) -> usize {
        let mut shares: HashMap<LayerId, u64> = HashMap::new();
        for path in layer.iter().map(|path| &path.path) {
            let home = closure.place(path).and_then(|at| self.homes.get(&keys[at]));
            if let Some((home, info)) = home.zip(closure.get(path)) {
                // A path without bytes comes from somewhere, too.
                *shares.entry(*home).or_default() += 1 + info.nar_size;
            }
        }
        let most = shares.into_iter().max_by_key(|(id, bytes)| (*bytes, *id.as_bytes()));
        most.and_then(|(id, _)| self.changes.get(&id)).copied().unwrap_or(0)
    }
}

/// A layer that no image has yet.
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
    let failed = |image: &str, source: nixply_packer::Error| Error::Plan {
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
                let options =
                    plan::Options { strategy: strategy.clone(), max_layers, ..plan::Options::default() };
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
