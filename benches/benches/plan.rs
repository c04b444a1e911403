//! Cost of planning 20,000 paths: by strategy, and with half of the paths in parent layers or ignored.

mod cpu_time;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use nixply_planning::plan::{Options, Plan, plan};
use nixply_planning::{Closure, PathInfo, PlannedPath, StorePath, Strategy};

const PATHS: usize = 20_000;
const MAX_LAYERS: usize = 100;

/// Every path refers to four earlier ones. Every 50th is large.
fn closure() -> Closure {
    let path = |at: usize| {
        StorePath::parse(&format!("/nix/store/{at:032}-package{}-1.{}", at / 3, at % 17)).unwrap()
    };
    Closure::new((0..PATHS).map(|at| PathInfo {
        path: path(at),
        references: [at / 2, at / 3, at / 5, at.saturating_sub(1)].map(path).into(),
        nar_hash: String::new(),
        nar_size: if at % 50 == 0 { 1_000_000 + at as u64 * 1000 } else { at as u64 * 7 % 50_000 },
    }))
}

fn planning(criterion: &mut Criterion<CpuTime>) {
    let closure = closure();
    let half: Vec<StorePath> = closure.iter().step_by(2).map(|info| info.path.clone()).collect();
    let parents: Vec<PlannedPath> =
        half.iter().map(|path| PlannedPath { path: path.clone(), options: None }).collect();
    let options = |strategy| Options { strategy, max_layers: MAX_LAYERS, ..Options::default() };
    let mut group = criterion.benchmark_group("plan, 20,000 paths");
    group.sample_size(10);
    for (name, options, expected) in [
        ("popularity", options(Strategy::Popularity), PATHS),
        ("size", options(Strategy::Size), PATHS),
        (
            "popularity, half in parents",
            Options { parents: parents.iter().collect(), ..options(Strategy::Popularity) },
            PATHS / 2,
        ),
        ("popularity, half ignored", Options { ignore: &half, ..options(Strategy::Popularity) }, PATHS / 2),
    ] {
        let planned = |options| plan(&closure, options).expect("there is no cycle");
        assert_eq!(planned(&options).iter().map(Vec::len).sum::<usize>(), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| -> Plan { planned(&options) }));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = planning
}
criterion_main!(benches);
