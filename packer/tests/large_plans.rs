//! Plans of closures that are much larger or deeper than the closures of today's images: every strategy ends in reasonable
//! time, and stops soon on request.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nixply_packer::{Error, ImageRequest};
use nixply_planning::plan::{Group, Lock, Member, Options, Plan, Stop, plan, plan_fleet};
use nixply_planning::{Closure, PathInfo, PlannedPath, Store, StorePath, Strategy};
use serde_json::json;

const PATHS: usize = 40_000;

/// Much longer than any of these tests takes on a busy machine, and much shorter than a quadratic algorithm takes.
const TIMEOUT: Duration = Duration::from_secs(300);

fn path(number: usize) -> StorePath {
    StorePath::parse(&format!("/nix/store/{number:032}-p{number}-1.0")).unwrap()
}

fn closure(count: usize, references: impl Fn(usize) -> Vec<usize>) -> Closure {
    Closure::new((0..count).map(|number| PathInfo {
        path: path(number),
        references: references(number).into_iter().filter(|to| *to < count).map(path).collect(),
        nar_hash: String::new(),
        // Some are large, most are small, in no order.
        nar_size: 1000 + (number as u64 * 2_654_435_761 % 1_000_003) * (1 << (number % 11)),
    }))
}

/// Each path refers to the next one.
fn chain() -> Closure {
    closure(PATHS, |number| vec![number + 1])
}

/// Each path refers to thirty of the paths after it, near and far.
fn dense() -> Closure {
    closure(PATHS, |number| {
        let far = (1..=20).map(|step| number + 1 + (number * 7919 + step * 104_729) % (PATHS - number));
        (1..=10).map(|step| number + step).chain(far).collect()
    })
}

/// Half of the paths are roots that refer to ten of the others.
fn roots() -> Closure {
    closure(PATHS, |number| match number < PATHS / 2 {
        true => (0..10).map(|step| PATHS / 2 + (number * 31 + step * 977) % (PATHS / 2)).collect(),
        false => Vec::new(),
    })
}

/// Fails if `work` takes too long.
fn finished<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let (sender, done) = channel();
        scope.spawn(move || sender.send(work()));
        match done.recv_timeout(TIMEOUT) {
            Ok(done) => done,
            Err(_) => {
                // A thread cannot be killed.
                eprintln!("{what} has not ended");
                std::process::exit(1);
            }
        }
    })
}

fn planned_by(strategy: Strategy, closure: &Closure, max_layers: usize) -> Plan {
    plan(closure, &Options { strategy, max_layers, ..Options::default() }).unwrap()
}

/// Checks that each path is in exactly one layer, and that there are at most `max_layers` layers.
fn check(plan: &Plan, closure: &Closure, max_layers: usize, what: &str) {
    assert!((1..=max_layers).contains(&plan.len()), "{what}: {} layers", plan.len());
    let mut paths: Vec<&StorePath> = plan.iter().flatten().map(|path| &path.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!((paths.len(), plan.iter().flatten().count()), (closure.len(), closure.len()), "{what}");
}

#[test]
fn every_strategy_plans_chains_and_dense_graphs_of_40_000_paths() {
    for (name, closure) in [("chain", chain()), ("dense", dense()), ("roots", roots())] {
        for strategy in Strategy::automatic().filter(|strategy| *strategy != Strategy::PerPath) {
            for max_layers in [100, 20_000, 100_000] {
                let what = format!("{name}, {}, {max_layers} layers", strategy.name());
                let plan = finished(&what, || planned_by(strategy, &closure, max_layers));
                check(&plan, &closure, max_layers, &what);
            }
        }
    }
}

#[test]
fn lock_files_of_40_000_paths_are_made_followed_and_updated() {
    let all = chain();
    let next = closure(PATHS, |number| vec![number + 1 + usize::from(number % 1000 == 0)]);
    for max_layers in [100, 20_000, 100_000] {
        let member = |closure| Member { name: "web", closure, paths: planned(closure), max_layers };
        let what = format!("{max_layers} layers");
        let lock = finished(&what, || Lock::update(None, &[member(&all)]).unwrap());
        let plans = finished(&what, || plan_fleet(&[member(&next)], Some(&lock)).unwrap());
        check(&plans[0], &next, max_layers, &what);
        finished(&what, || Lock::update(Some(&lock), &[member(&next)]).unwrap());
    }
    // All paths have the same package name.
    let name = |number: usize| StorePath::parse(&format!("/nix/store/{number:032}-source-1.0")).unwrap();
    let alike = Closure::new((0..PATHS).map(|number| PathInfo {
        path: name(number),
        references: Vec::new(),
        nar_hash: String::new(),
        nar_size: 1 + number as u64,
    }));
    let member = || Member { name: "web", closure: &alike, paths: planned(&alike), max_layers: 100 };
    let lock = finished("one package", || Lock::update(None, &[member()]).unwrap());
    assert_eq!(finished("one package", || Lock::update(Some(&lock), &[member()]).unwrap()), lock);
}

fn planned(closure: &Closure) -> Vec<PlannedPath> {
    closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect()
}

#[test]
fn requests_and_groups_of_100_000_layers_are_planned() {
    const LAYERS: usize = 100_000;
    let all = closure(LAYERS, |_| Vec::new());
    let groups: Vec<Group> =
        (0..LAYERS).map(|number| [path(number)].into_iter().collect::<Group>()).collect();
    let plan = finished("groups", || {
        let strategy = Strategy::Explicit;
        plan(&all, &Options { strategy, groups: &groups, max_layers: LAYERS, ..Options::default() }).unwrap()
    });
    check(&plan, &all, LAYERS, "groups");
    let layers: Vec<_> = (0..LAYERS).map(|number| json!({"deps": [path(number)]})).collect();
    let request = json!({"arch": "amd64", "layers": layers, "layerLimit": LAYERS});
    let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
    let store = Store::at("/nix/store");
    let plan = finished("layers", || request.plan(&all, &store).unwrap());
    assert_eq!(plan.layers.len(), LAYERS);
}

/// Each of these strategies runs for longer than the delay before the stop.
#[test]
fn every_strategy_stops_on_request() {
    let all = dense();
    for strategy in [Strategy::AutoLayer, Strategy::MinChurn] {
        let stop = AtomicBool::new(false);
        let ended = finished(strategy.name(), || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(20));
                    stop.store(true, Ordering::Relaxed);
                });
                let stop = Stop::new(&stop);
                plan(&all, &Options { strategy, max_layers: 20_000, stop, ..Options::default() })
            })
        });
        assert!(matches!(ended, Err(nixply_planning::Error::Interrupted)), "{}", strategy.name());
    }
    // A stop that is already set ends any plan at once.
    let stop = AtomicBool::new(true);
    let request =
        ImageRequest::from_json(r#"{"arch": "amd64", "layers": [{"deps": []}]}"#, "request").unwrap();
    let ended = request.plan_until(&all, &Store::at("/nix/store"), Stop::new(&stop));
    assert!(matches!(ended, Err(Error::Interrupted)));
}
