//! Replays a history: plans each release and counts what it moves.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use nixply_packer::closure::Closure;
use nixply_packer::plan::{self, Lock, Member, PlannedPath, Strategy};

use crate::error::{Error, Result};
use crate::history::{History, Release};

/// What a strategy is asked to do at each release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contender {
    /// Plan each image anew.
    Anew(Strategy),
    /// `nixply`, with a lock file that is updated at each release, all images together.
    Locked,
    /// Plan with `nixply`, all images together, without a lock file.
    Together,
    /// A layer for each path, whatever the limit: no strategy moves less.
    Floor,
}

impl Contender {
    /// Its name in reports.
    pub fn name(&self) -> String {
        match self {
            Self::Anew(strategy) => strategy.name().to_owned(),
            Self::Locked => "nixply+lock".into(),
            Self::Together => "nixply, together".into(),
            Self::Floor => "floor".into(),
        }
    }
}

/// What a release moved. Bytes are those of archives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moved {
    /// Bytes that the registry did not have.
    pub pushed: u64,
    /// Of these, bytes in layers without a path that is new.
    pub churned: u64,
    /// For each image, bytes that a client fetches who has the release before.
    pub pulled: Vec<u64>,
    /// Layers of all images that the release before did not have.
    pub layers_changed: usize,
    /// Layers of all images, each once.
    pub layers: usize,
    /// Bytes of all images' layers, each layer once.
    pub stored: u64,
    /// Bytes of all images' paths, each path once.
    pub ceiling: u64,
    /// Bytes of all images, each by itself.
    pub alone: u64,
    /// Bytes in the registry by now, if nothing is ever removed.
    pub registry: u64,
    /// How long planning took.
    pub planning: Duration,
}

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
pub fn replay(history: &History, contender: &Contender, max_layers: usize) -> Result<Vec<Moved>> {
    let mut lock: Option<Lock> = None;
    let mut registry: HashSet<LayerId> = HashSet::new();
    let mut in_registry = 0;
    let mut before: Vec<HashSet<LayerId>> = vec![HashSet::new(); history.images.len()];
    let mut known_paths: HashSet<String> = HashSet::new();
    let mut all = Vec::with_capacity(history.releases.len());
    for release in &history.releases {
        let started = Instant::now();
        let plans = plans(history, release, contender, max_layers, &mut lock)?;
        let mut moved = Moved { planning: started.elapsed(), ..Moved::default() };
        let mut stored: HashMap<LayerId, u64> = HashMap::new();
        let mut paths: HashMap<&str, u64> = HashMap::new();
        let mut next = Vec::with_capacity(plans.len());
        for ((layers, closure), before) in plans.iter().zip(&release.closures).zip(&before) {
            let (mut ids, mut pulled) = (HashSet::new(), 0);
            for layer in layers {
                let id = layer_id(layer);
                let mut bytes = 0;
                for path in layer {
                    let size = closure.get(&path.path).map_or(0, |info| info.nar_size);
                    bytes += size;
                    paths.insert(path.path.as_str(), size);
                }
                moved.alone += bytes;
                if !before.contains(&id) {
                    pulled += bytes;
                }
                if stored.insert(id, bytes).is_none() {
                    moved.stored += bytes;
                    moved.layers += 1;
                    moved.layers_changed += usize::from(!before.contains(&id));
                    if registry.insert(id) {
                        moved.pushed += bytes;
                        if layer.iter().all(|path| known_paths.contains(path.path.as_str())) {
                            moved.churned += bytes;
                        }
                    }
                }
                ids.insert(id);
            }
            moved.pulled.push(pulled);
            next.push(ids);
        }
        in_registry += moved.pushed;
        moved.registry = in_registry;
        moved.ceiling = paths.values().sum();
        known_paths.extend(paths.into_keys().map(str::to_owned));
        before = next;
        all.push(moved);
    }
    Ok(all)
}

fn plans(
    history: &History,
    release: &Release,
    contender: &Contender,
    max_layers: usize,
    lock: &mut Option<Lock>,
) -> Result<Vec<plan::Plan>> {
    let failed = |image: &str, source| Error::Plan {
        strategy: contender.name(),
        release: release.name.clone(),
        image: image.to_owned(),
        source,
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
        Contender::Anew(strategy) => images
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
        Contender::Together => plan::plan_fleet(&members(), None).map_err(|source| failed("all", source)),
        Contender::Locked => {
            let members = members();
            let next = Lock::update(lock.as_ref(), &members).map_err(|source| failed("all", source))?;
            let plans = plan::plan_fleet(&members, Some(&next)).map_err(|source| failed("all", source))?;
            *lock = Some(next);
            Ok(plans)
        }
    }
}
